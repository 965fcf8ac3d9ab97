"""What a SavedModel takes, read out of its graph without loading it: the signature's inputs, and of serialized
tf.Examples the features that it parses, their types, and those that it cannot do without.

For a process that has TensorFlow's protos and nothing else of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ctd.components.signature_inputs import STRING, Input
from ctd.core.errors import BadInput, NotFound
from ctd.specs.hints import did_you_mean, listed

_DEFAULT = "serving_default"
_INIT = "__saved_model_init_op"
_PARSERS = ("ParseExampleV2", "ParseExample", "ParseSingleExample")
_SEQUENCE_PARSERS = ("ParseSequenceExample", "ParseSequenceExampleV2", "ParseSingleSequenceExample")

KINDS: Mapping[int, str] = {1: "float_list", 9: "int64_list", STRING: "bytes_list"}
"""The field of a tf.Example's feature by DataType."""

_Op = tuple[Any, Mapping[str, Any]]  # a node, with those of its function or graph by name


@dataclass(frozen=True)
class Feature:
    """A feature that a graph parses. `size`: how many values it must have; none: any number, or no value at all."""

    kind: str
    size: int | None

    @property
    def required(self) -> bool:
        return self.size is not None


@dataclass(frozen=True)
class Inputs:
    """Of one signature: DataType and shape by input. `parsed` is None where nobody knows what the graph parses."""

    signature: str
    tensors: Mapping[str, Input]
    parsed: Mapping[str, Feature] | None
    sequences: bool  # it parses tf.SequenceExamples


def inputs_of(folders: Sequence[str], wanted: str) -> tuple[Inputs, str]:
    """What the SavedModel takes that is in the first of these folders to have one, and that folder. Raises NotFound."""
    graph, folder = _graph(folders)
    name, signature = _signature(graph, wanted)
    ops = list(_ops(graph, signature))
    tensors = {key: (t.dtype, _shape(t.tensor_shape)) for key, t in signature.inputs.items()}
    return Inputs(name, tensors, _parsed(ops), any(node.op in _SEQUENCE_PARSERS for node, _ in ops)), folder


def parsed_features(folder: str, signature: str) -> Collection[str]:
    """The features that a signature's graph parses; none where it parses nothing, or nobody can know what.

    Raises NotFound without such a SavedModel.
    """
    found, _ = inputs_of([folder], signature)
    return found.parsed or ()


def _graph(folders: Sequence[str]) -> tuple[Any, str]:
    proto = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2")
    for path in (Path(folder, "saved_model.pb") for folder in folders):
        if path.is_file():
            try:
                graphs = proto.SavedModel.FromString(path.read_bytes()).meta_graphs
            except DecodeError as error:
                raise BadInput(
                    f"{path} is no SavedModel: {error}", hint="It is damaged: push the model again."
                ) from error
            found = next((g for g in graphs if "serve" in g.meta_info_def.tags), next(iter(graphs), None))
            if found is not None:
                return found, str(path.parent)
    hint = "`ctd status` says what is wrong with the target; retention or somebody removed the files."
    raise NotFound(f"there is no SavedModel at {listed(folders, 'or')}", hint=hint)


def _signature(graph: Any, wanted: str) -> tuple[str, Any]:
    known = sorted(name for name in graph.signature_def if name != _INIT)
    name = wanted or (_DEFAULT if _DEFAULT in known else known[0] if len(known) == 1 else "")
    if name not in known:
        what = (
            f"the model has no signature {name!r}" if name else f"the model has several signatures, and no {_DEFAULT}"
        )
        raise NotFound(what, hint=f"{did_you_mean(name, known)}Name one with --signature: {listed(known)}.")
    return name, graph.signature_def[name]


def _ops(graph: Any, signature: Any) -> Iterator[_Op]:
    """The nodes that the outputs of a signature depend on."""
    main = {node.name: node for node in graph.graph_def.node}
    functions = {f.signature.name: {node.name: node for node in f.node_def} for f in graph.graph_def.library.function}
    left = [_node(tensor.name) for tensor in signature.outputs.values()]
    seen: set[str] = set()
    calls: list[str] = []
    while left:
        node = main.get(left.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            yield node, main
            left += map(_node, node.input)
            calls += _called(node)
    done: set[str] = set()
    while calls:
        name = calls.pop()
        if name not in done:
            done.add(name)
            for node in functions.get(name, {}).values():
                yield node, functions[name]
                calls += _called(node)


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (of.name for of in value.list.func)


def _parsed(ops: Sequence[_Op]) -> Mapping[str, Feature] | None:
    """What the graph parses out of tf.Examples; None if that cannot be known."""
    found: dict[str, Feature] = {}
    parsers = [(node, around) for node, around in ops if node.op in _PARSERS]
    for node, around in parsers:
        features = _features(node, around)
        if features is None:
            return None
        found.update(features)
    return found if parsers else None


def _features(node: Any, around: Mapping[str, Any]) -> Mapping[str, Feature] | None:
    dense, sparse, ragged, defaults = _keys(node, around)
    attr = node.attr
    types, shapes = list(attr["Tdense"].list.type), list(attr["dense_shapes"].list.shape)
    kinds = [*attr["sparse_types"].list.type, *attr["ragged_value_types"].list.type]
    others = [*(sparse or []), *(ragged or [])]
    if dense is None or sparse is None or ragged is None or len(kinds) != len(others):
        return None
    if not len(dense) == len(types) == len(shapes) == len(defaults):
        return None
    found = {name: Feature(KINDS[kind], None) for name, kind in zip(others, kinds, strict=True) if kind in KINDS}
    for name, kind, shape, default in zip(dense, types, shapes, defaults, strict=True):
        sizes = _shape(shape)
        empty = default is not None and _size(default) == 0
        fixed = sizes is not None and all(size >= 0 for size in sizes)
        if kind in KINDS:
            found[name] = Feature(KINDS[kind], prod(sizes or ()) if empty and fixed else None)
    return found


def _keys(node: Any, around: Mapping[str, Any]) -> tuple[Any, Any, Any, Sequence[Any]]:
    """Names of dense, sparse and ragged features, and the constants that are the defaults of the dense ones."""
    inputs = [around.get(_node(name)) for name in node.input if not name.startswith("^")]
    if node.op == "ParseSingleExample":
        dense_keys, sparse_keys = (
            [_text(name) for name in node.attr[key].list.s] for key in ("dense_keys", "sparse_keys")
        )
        return dense_keys, sparse_keys, [], inputs[1:]
    if node.op == "ParseExampleV2":
        sparse, dense, ragged = map(_texts, inputs[2:5])
        return dense, sparse, ragged, inputs[5:]
    many, of_dense = node.attr["Nsparse"].i, node.attr["Ndense"].i
    said = [_texts(constant) for constant in inputs[2 : 2 + many + of_dense]]
    if any(text is None for text in said):
        return None, None, None, ()
    names = [text for texts in said for text in texts or ()]
    return names[many:], names[:many], [], inputs[2 + many + of_dense :]


def _texts(constant: Any) -> list[str] | None:
    """The value of a constant of texts."""
    if constant is None or constant.op != "Const":
        return None
    value = constant.attr["value"].tensor
    texts = [_text(text) for text in value.string_val]
    size = _size(constant) or 0
    return texts * size if len(texts) == 1 else texts  # equal values are written once


def _size(constant: Any) -> int | None:
    if constant.op != "Const":
        return None
    return prod(dim.size for dim in constant.attr["value"].tensor.tensor_shape.dim)


def _text(said: bytes) -> str:
    return said.decode(errors="backslashreplace")


def _node(name: str) -> str:
    """The node of a tensor: `name:0` in a graph, `name:output:0` in a function, `^name` that only comes before."""
    return name.removeprefix("^").partition(":")[0]


def _shape(shape: Any) -> list[int] | None:
    return None if shape.unknown_rank else [dim.size for dim in shape.dim]
