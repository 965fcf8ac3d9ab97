"""Importer: a schema, model or hyperparameters from outside, checked and copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ctd.components.api import SCHEMA_FILE, SERVING_DIR, Outputs, Work
from ctd.components.counted_schema import counted_digest
from ctd.components.metadata_files import digest_of_messages, read_schema
from ctd.core.artifacts import COUNTED
from ctd.core.errors import BadInput
from ctd.core.fingerprints import digest_of
from ctd.specs.nodes import ImporterSpec

HYPERPARAMETERS_FILE = "best_hyperparameters.txt"


def run(work: Work) -> Outputs:
    """Make the one output that the spec's `artifact` says. Raises BadInput with file and line."""
    spec = work.spec(ImporterSpec)
    source = Path(work.request.paths["path"])
    if not source.exists():
        raise BadInput(f"{work.where}: {source} does not exist", hint="Put it there, or mend `path` in the spec.")
    ((output, _),) = work.request.outputs.items()
    directory = work.output(output)
    digest, properties = _TAKE[spec.artifact](source, directory)
    return {output: [work.made(directory, digest=digest, **properties, is_external=1)]}


_Taken = tuple[str, dict[str, Any]]  # a digest, and properties


def _take_schema(source: Path, directory: Path) -> _Taken:
    schema = read_schema(source)
    # The file as it is: people's comments are worth keeping.
    shutil.copyfile(source, directory / SCHEMA_FILE)
    return digest_of_messages({"schema": schema}), {COUNTED: counted_digest(schema)}


def _take_model(source: Path, directory: Path) -> _Taken:
    if not (source / "saved_model.pb").is_file():
        raise BadInput(f"{source} holds no saved_model.pb", hint="`path` names the folder of a SavedModel.")
    shutil.copytree(source, directory / SERVING_DIR)
    return "", {}


def _take_hyperparameters(source: Path, directory: Path) -> _Taken:
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {source}: {error.strerror}", hint="Hyperparameters are one JSON file.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", 1)
        raise BadInput(f"{source}:{line}: not JSON: {error}", hint="Hyperparameters are one JSON object.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{source}:1: a JSON {type(values).__name__}", hint="Hyperparameters are one JSON object.")
    shutil.copyfile(source, directory / HYPERPARAMETERS_FILE)
    return digest_of(values), {}


_TAKE: Mapping[str, Callable[[Path, Path], _Taken]] = {
    "Schema": _take_schema,
    "Model": _take_model,
    "HyperParameters": _take_hyperparameters,
}
