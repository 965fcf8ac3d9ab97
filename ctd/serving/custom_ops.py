"""The ops that a model needs, and those that this process knows.

Loading a library cannot be undone and holds for the whole process. So a process that has loaded libraries of its own
accord, as a worker has, must not stand in for a model server whose models need them: `only_tensorflows_own`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import platform
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tensorflow.python.framework import errors as tf_errors
from tensorflow.python.framework import load_library, op_def_registry
from tensorflow.python.saved_model import loader_impl

from ctd.serving import op_libraries
from ctd.serving.errors import Code, ServingError
from ctd.serving.op_libraries import OpLibrary

log = logging.getLogger(__name__)

_lock = threading.Lock()  # two models that load at the same time


def register(names: Sequence[str]) -> None:
    """Load these libraries. Raises ServingError for one that is not there or cannot be loaded."""
    for name in names:
        library = op_libraries.find(name)
        if library.imported:
            _import(name)
        else:
            _load(library)
        log.info("op library %s is loaded", name)


def provide(meta_graph: Any) -> None:
    """See to it that every op of a graph is known here, by what tensorflow_model_server has linked in, if need be.

    Raises ServingError with the names of those that remain unknown.
    """
    needed = used(meta_graph)
    if _unknown(needed):
        with _lock:
            for library in op_libraries.linked_in():
                if _unknown(needed):
                    _load_linked_in(library)
    if missing := _unknown(needed):
        raise ServingError(Code.NOT_FOUND, _complaint(missing))


def prepare(model: Path) -> None:
    """The same before a SavedModel is loaded in this process; what is wrong with it, its loader may say."""
    with contextlib.suppress(ServingError):
        for meta_graph in _meta_graphs(model):
            provide(meta_graph)


def only_tensorflows_own(model: Path) -> bool:
    """Whether a SavedModel needs no op but those that every TensorFlow has, whatever this process has loaded."""
    own = _tensorflows_own()
    return all(used(meta_graph) <= own for meta_graph in _meta_graphs(model))


def used(meta_graph: Any) -> frozenset[str]:
    """The ops of a MetaGraphDef, those in functions too."""
    graph = meta_graph.graph_def
    functions = {function.signature.name for function in graph.library.function}
    return frozenset(_ops(graph)) - functions


def _ops(graph: Any) -> Iterator[str]:
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)


def _meta_graphs(model: Path) -> Sequence[Any]:
    try:
        found: Sequence[Any] = loader_impl.parse_saved_model(str(model)).meta_graphs
    except (OSError, ValueError, tf_errors.OpError):
        return ()
    return found


@functools.cache
def _tensorflows_own() -> frozenset[str]:
    """TensorFlow's public list. It lacks some that are internal; what is not in it is looked at more closely."""
    return frozenset(dir(importlib.import_module("tensorflow._api.v2.raw_ops")))


def _unknown(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if op_def_registry.get(name) is None)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:
        raise _unusable(name, f"importing it raised {type(error).__name__}: {error}") from error


def _load_linked_in(library: OpLibrary) -> None:
    try:
        _load(library)
    except ServingError as error:
        log.warning("%s", error.message)
    else:
        log.info("op library %s is loaded: a model needs it, and tensorflow_model_server has it", library.name)


def _load(library: OpLibrary) -> None:
    """Raises ServingError if nothing of it can be loaded. A package may have parts for other occasions."""
    said = [(file, _complaint_of(file)) for file in library.files]
    complaints = [f"{file}: {complaint.removeprefix(f'{file}: ')}" for file, complaint in said if complaint]
    if len(complaints) == len(library.files):
        raise _unusable(library.name, "; ".join(complaints))
    for complaint in complaints:
        log.warning("op library %s: %s", library.name, complaint)


def _complaint_of(file: Path) -> str:
    """What is wrong with a shared object, or nothing once it is loaded."""
    try:
        load_library.load_op_library(str(file))
    except tf_errors.AlreadyExistsError:
        return ""  # another copy of it is loaded
    except tf_errors.OpError as error:
        return str(error.message)
    except (RuntimeError, OSError) as error:
        return str(error)
    return ""


def _unusable(name: str, why: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"op library {name} cannot be loaded: {why}")


def _complaint(missing: Sequence[str]) -> str:
    """As TensorFlow says it, and what to do."""
    others = f" (nor {', '.join(missing[1:])})" if missing[1:] else ""
    return f"Op type not registered '{missing[0]}' in binary running on {platform.node()}{others}. {ADVICE}"


ADVICE = (
    "This server has TensorFlow's own ops, and those of tensorflow_text and of tensorflow_decision_forests (inference) "
    "where these packages are installed, as tensorflow_model_server has them linked in. Name the package, or the "
    "shared object, that brings other ones: `ctd serve --op_libraries=...`, and `op_libraries: [...]` of the "
    "infra_validator, so that both load the same"
)
