"""The few names of TFX that modules written for it import: mostly to annotate `run_fn` with.

ctd neither needs nor installs TFX. Where it is installed, its own names are used.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from google.protobuf import text_format
from google.protobuf.message import Message

from ctd.components.fn_args import DataAccessor, FnArgs


class TunerFnResult(NamedTuple):
    """What a `tuner_fn` returns."""

    tuner: Any
    fit_kwargs: Mapping[str, Any]


def parse_pbtxt_file(file_name: str, message: Message) -> Message:
    """The message, filled from a text proto."""
    return text_format.Parse(Path(file_name).read_text(encoding="utf-8"), message)


_FOR_COMPONENTS = {"FnArgs": FnArgs, "DataAccessor": DataAccessor, "TunerFnResult": TunerFnResult}
_NAMES: Mapping[str, Mapping[str, Any]] = {
    "tfx": {},
    "tfx.v1": {},
    "tfx.v1.components": _FOR_COMPONENTS,
    "tfx.v1.utils": {"parse_pbtxt_file": parse_pbtxt_file},
    "tfx.components": {},
    "tfx.components.trainer": {},
    "tfx.components.trainer.executor": {"TrainerFnArgs": FnArgs},
    "tfx.components.trainer.fn_args_utils": {"FnArgs": FnArgs, "DataAccessor": DataAccessor},
    "tfx.components.tuner": {},
    "tfx.components.tuner.component": {"TunerFnResult": TunerFnResult},
    "tfx.utils": {},
    "tfx.utils.io_utils": {"parse_pbtxt_file": parse_pbtxt_file},
}


def _refuse(path: str) -> Callable[[str], Any]:
    """What a module does when asked for a name that it does not have."""

    def refuse(name: str) -> Any:
        offered = ", ".join(f"{module}.{known}" for module, names in _NAMES.items() for known in names)
        raise AttributeError(f"{path}.{name}: TFX is not installed, and ctd stands in for no more than {offered}")

    return refuse


def offer_tfx_names() -> None:
    """Make the names importable in this process, unless TFX is installed."""
    if "tfx" in sys.modules or importlib.util.find_spec("tfx"):
        return
    for path, names in _NAMES.items():
        module = ModuleType(path, "Stands in for TFX, which is not installed.")
        module.__path__ = []
        vars(module).update(names, __getattr__=_refuse(path))
        sys.modules[path] = module
        parent, _, name = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], name, module)
