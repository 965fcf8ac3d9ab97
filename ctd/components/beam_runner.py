"""Pipelines on the runner of Apache Beam that a spec names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from ctd.components.user_errors import told
from ctd.core.errors import ComponentFailed, CtdError
from ctd.core.work import Cancelled
from ctd.specs.beam import BeamRunner


@contextlib.contextmanager
def on_beam(where: str, beam: BeamRunner) -> Iterator[Pipeline]:
    """A pipeline to build, which has run at the end. Raises ComponentFailed with what the runner said."""
    try:
        with Pipeline(options=PipelineOptions([f"--runner={beam.runner}", *beam.args])) as pipeline:
            yield pipeline
    except (CtdError, Cancelled):
        raise
    except BaseException as error:  # argparse leaves the process for an option that it does not know
        raise ComponentFailed(
            f"{where}: Beam's {beam.runner} ended with {told(error, None)}",
            hint="The execution's log has all of it. The runner's workers need ctd's packages, and reach the data and "
            "the state directory under the same paths. Without `beam`, the node runs on this machine.",
        ) from error
