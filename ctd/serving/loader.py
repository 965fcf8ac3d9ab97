"""A SavedModel in memory: one v1 session per version, with a cached callable for each way it is asked.

A session is what makes serving from Python fast and its end certain: callables skip all of TensorFlow's Python, and
closing the session frees the version's memory.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client.session import Session
from tensorflow.python.framework import errors as tf_errors
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model import loader_impl

from ctd.serving import codec, custom_ops, side_protos
from ctd.serving.batching import Batcher
from ctd.serving.codec import Array, ElementType
from ctd.serving.errors import Code, ServingError
from ctd.serving.flags import Flags

# Clients choose which outputs they want; each choice costs a callable, so only so many are kept.
_MOST_CALLABLES = 64

# Requests run side by side as it is; handing their ops to a pool costs a small model more than its run.
_CALLERS_THREAD = -1

_VARIABLE_OPS = ("VarHandleOp", "VariableV2")


@dataclass(frozen=True)
class Signature:
    """One way to call a model: aliases of inputs and outputs with their types, as in its SignatureDef."""

    name: str
    inputs: Mapping[str, ElementType]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Array]


class _Signatures(Mapping[str, Signature]):
    """Signatures by name, each looked into when it is first asked for: one that cannot be served harms no other."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._known: dict[str, Signature] = {}

    def __getitem__(self, name: str) -> Signature:
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = _signature(name, self._definitions[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)


@dataclass(frozen=True)
class Options:
    """What TensorFlow must know to load a model."""

    tags: frozenset[str]
    session: Any  # a ConfigProto

    @classmethod
    def of(cls, flags: Flags) -> Options:
        """As the flags say, and the file that they name. Raises ServingError for a file that cannot be read."""
        session = config_pb2.ConfigProto()
        if flags.tensorflow_session_config_file:
            side_protos.read_text(Path(flags.tensorflow_session_config_file), session)
        session.allow_soft_placement = True
        session.intra_op_parallelism_threads = _threads(
            flags.tensorflow_intra_op_parallelism, flags, session.intra_op_parallelism_threads
        )
        session.inter_op_parallelism_threads = _threads(
            flags.tensorflow_inter_op_parallelism, flags, session.inter_op_parallelism_threads
        )
        return cls(frozenset(flags.saved_model_tags.split(",")), session)

    @property
    def inline(self) -> bool:
        """Whether a request runs in its own thread."""
        return bool(self.session.inter_op_parallelism_threads == 1)


def _threads(said: int | None, flags: Flags, in_file: int) -> int:
    """The flag's own number, else that of the flag for both kinds of threads, else the file's, else one."""
    together = flags.tensorflow_session_parallelism
    return next((number for number in (said, together) if number is not None), in_file or 1)


class Servable:
    """One loaded version. Safe to call from many threads; `close` only when nobody calls any more."""

    def __init__(
        self, session: Any, signature_defs: Mapping[str, Any], options: Options, batcher: Batcher | None = None
    ) -> None:
        self.signature_defs = signature_defs
        self.signatures: Mapping[str, Signature] = _Signatures(signature_defs)
        self._session = session
        self._batcher = batcher
        self._inline = options.inline
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., Sequence[Any]]] = {}
        self._lock = threading.Lock()

    def run(
        self,
        signature: Signature,
        feeds: Mapping[str, Array],
        outputs: Sequence[str] = (),
        deadline: float | None = None,
    ) -> dict[str, Array]:
        """The named outputs (all, if none is named) for these inputs, which must be exactly the signature's.

        The deadline, on the monotonic clock, ends the wait for other requests to run with; a run itself is not ended.
        """
        names = tuple(outputs) or signature.outputs
        for alias, kind in signature.inputs.items():
            _check_type(alias, kind, feeds[alias])
        call = functools.partial(self._run_now, signature, names)
        if self._batcher is None:
            return call(feeds)
        return self._batcher.run((id(self), signature.name, names), feeds, call, deadline)

    def _run_now(self, signature: Signature, names: tuple[str, ...], feeds: Mapping[str, Array]) -> dict[str, Array]:
        call = self._callable(signature, names)
        with model_code():
            values = call(*(feeds[alias] for alias in signature.inputs))
        return {name: _as_array(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """Free the version's memory."""
        self._callables.clear()
        with model_code():
            self._session.close()
        self._session = None
        gc.collect()  # a graph is full of cycles, and the collector comes too seldom to it by itself

    def _callable(self, signature: Signature, names: tuple[str, ...]) -> Callable[..., Sequence[Any]]:
        key = (signature.name, names)
        with self._lock:
            found = self._callables.get(key)
            if found is None:
                found = self._make_callable(signature, names)
                if len(self._callables) < _MOST_CALLABLES:
                    self._callables[key] = found
            return found

    def _make_callable(self, signature: Signature, names: Sequence[str]) -> Callable[..., Sequence[Any]]:
        definition = self.signature_defs[signature.name]
        options = config_pb2.CallableOptions()
        options.feed.extend(definition.inputs[alias].name for alias in signature.inputs)
        options.fetch.extend(definition.outputs[alias].name for alias in names)
        options.run_options.inter_op_thread_pool = _CALLERS_THREAD if self._inline else 0
        with model_code():
            # The public make_callable builds a feed dictionary for each call and is several times slower.
            call: Callable[..., Sequence[Any]] = self._session._make_callable_from_options(options)  # noqa: SLF001
        return call


def load(path: Path, options: Options, batcher: Batcher | None = None) -> Servable:
    """Load the SavedModel in this directory; whatever is wrong with it leaves as ServingError."""
    with model_code():
        model = loader_impl.SavedModelLoader(str(path))
        tags = set(options.tags)
        meta_graph = model.get_meta_graph_def_from_tags(tags)
        _check_variables(path, meta_graph)
        custom_ops.provide(meta_graph)
        session = Session(graph=Graph(), config=options.session)
        try:
            saver, _ = model.load_graph(session.graph, tags, clear_devices=True)
            model.restore_variables(session, saver)
            model.run_init_ops(session, tags)
        except BaseException:
            session.close()
            raise
    return Servable(session, dict(meta_graph.signature_def), options, batcher)


@contextlib.contextmanager
def model_code() -> Iterator[None]:
    """The border around the model, a program that we did not write: whatever it raises leaves as ServingError."""
    try:
        yield
    except ServingError:
        raise
    except tf_errors.OpError as error:
        raise ServingError(Code(error.error_code), error.message) from error
    except UnicodeDecodeError as error:
        # TensorFlow's message quotes bytes of the request that are no text, and fails to hand itself over.
        raise ServingError(Code.INVALID_ARGUMENT, error.object.decode(errors="replace")) from error
    except FileNotFoundError as error:
        raise ServingError(Code.NOT_FOUND, str(error)) from error
    except OSError as error:
        # The loader raises plain OSError both for "no saved_model.pb" and for one that it cannot parse.
        missing = "does not exist" in str(error)
        raise ServingError(Code.NOT_FOUND if missing else Code.DATA_LOSS, str(error).strip()) from error
    except RuntimeError as error:
        raise ServingError(Code.NOT_FOUND, f"Could not find meta graph def matching supplied tags: {error}") from error
    except Exception as error:
        raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error


def _check_variables(path: Path, meta_graph: Any) -> None:
    """Refuse a model whose variables did not come along: TensorFlow would load it and fail on every request."""
    functions = meta_graph.graph_def.library.function
    nodes = (meta_graph.graph_def.node, *(function.node_def for function in functions))
    has_variables = any(node.op in _VARIABLE_OPS for part in nodes for node in part)
    index = path / "variables" / "variables.index"
    if has_variables and not index.exists():
        raise ServingError(Code.NOT_FOUND, f"The SavedModel has variables, but there is no {index}")


def _signature(name: str, definition: Any) -> Signature:
    """Raises UNIMPLEMENTED for element types that no request can have."""
    return Signature(
        name=name,
        inputs={alias: codec.element_type(definition.inputs[alias].dtype) for alias in sorted(definition.inputs)},
        outputs=tuple(sorted(definition.outputs)),
        defaults={alias: codec.from_proto(proto) for alias, proto in definition.defaults.items()},
    )


def _check_type(alias: str, kind: ElementType, array: Array) -> None:
    got = codec.element_type_of(array)
    if got.number != kind.number:
        raise ServingError(Code.INVALID_ARGUMENT, f"Expects input {alias} to be {kind.name} but {got.name} is provided")


def _as_array(value: Any) -> Array:
    """What a callable returns for one output; a scalar string comes as bare bytes, whose zero bytes numpy would eat."""
    if isinstance(value, bytes):
        return codec.strings([value]).reshape(())
    return np.asarray(value)
