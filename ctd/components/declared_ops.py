"""The op libraries that a spec names for a model, in a worker: who asks a model server asks the model itself too."""

from __future__ import annotations

from collections.abc import Sequence

from ctd.components.api import Work
from ctd.core.errors import ComponentFailed
from ctd.serving import custom_ops
from ctd.serving.errors import ServingError

PROPERTY = "op_libraries"  # of an InfraBlessing: the names, with commas


def register(names: Sequence[str]) -> None:
    """Load the libraries. Raises ComponentFailed."""
    try:
        custom_ops.register(names)
    except ServingError as error:
        hint = "Correct `op_libraries` of the node, or install the package and `ctd retry`."
        raise ComponentFailed(error.message, hint=hint) from error


def register_blessed(work: Work) -> None:
    """Load those with which the model was blessed. Raises ComponentFailed."""
    blessing = work.optional("infra_blessing")
    names = str(blessing.properties.get(PROPERTY, "")) if blessing else ""
    register([name for name in names.split(",") if name])
