"""The identity of a TransformGraph: what it computes, not how this run happened to name it.

TensorFlow numbers functions and tables as it traces them, so the bytes of two equal graphs differ. Here a node is
known by its operation, attributes and inputs, a function by its nodes, a table by what fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ctd.components.metadata_files import digest_of_messages, read_schema
from ctd.core.errors import BadInput
from ctd.core.fingerprints import digest_of, digest_of_bytes

# Where TFTransformOutput looks for things.
TRANSFORM_FN_DIR = "transform_fn"
SCHEMAS = ("metadata/schema.pbtxt", "transformed_metadata/schema.pbtxt")

# Attributes that hold nothing but names.
_NAMES = frozenset({"shared_name", "container"})


def digest_of_transform_graph(directory: Path) -> str:
    """Equal for equal preprocessing with equal results of analysis: constants, vocabularies, schemas, weights."""
    saved = directory / TRANSFORM_FN_DIR
    model = SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    graph = _Graph(model.meta_graphs[0], saved)
    assets = {path.name: digest_of_bytes(path.read_bytes()) for path in (saved / "assets").glob("*")}
    schemas = {name: read_schema(directory / name) for name in SCHEMAS}
    return digest_of([graph.root("transform_fn"), assets, _variables(saved), digest_of_messages(schemas)])


def _variables(saved: Path) -> Mapping[str, str]:
    reader = tf.train.load_checkpoint(str(saved / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: digest_of_bytes(reader.get_tensor(name).tobytes()) for name in names}


class _Graph:
    """A SavedModel's objects and functions, each with the digest of its meaning."""

    def __init__(self, meta: Any, saved: Path) -> None:
        self._saved = saved
        self._objects = meta.object_graph_def.nodes
        self._concrete = meta.object_graph_def.concrete_functions
        self._library = {function.signature.name: function for function in meta.graph_def.library.function}
        self._constants = {node.name: node for node in meta.graph_def.node}
        self._assets = meta.asset_file_def
        self._known_objects: dict[int, str] = {}
        self._known_functions: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The digest of an attribute of the saved module."""
        ids = {child.local_name: child.node_id for child in self._objects[0].children}
        if name not in ids:
            raise BadInput(f"{self._saved} has no {name}", hint="It was not written by TensorFlow Transform.")
        return self._object(ids[name])

    def _object(self, number: int) -> str:
        if number not in self._known_objects:
            # A table's initializer refers to the table: there, it is itself.
            self._known_objects[number] = "itself"
            self._known_objects[number] = digest_of(self._meaning(self._objects[number]))
        return self._known_objects[number]

    def _meaning(self, node: Any) -> list[Any]:
        kind = str(node.WhichOneof("kind"))
        said = getattr(node, kind)
        if kind == "asset":
            file = self._saved / "assets" / Path(self._assets[said.asset_file_def_index].filename).name
            return [kind, digest_of_bytes(file.read_bytes())]
        if kind == "constant":
            return [kind, _attributes(self._constants[said.operation], {})]
        if kind == "function":
            return [kind, [self._function(name) for name in said.concrete_functions]]
        if kind == "bare_concrete_function":
            return [kind, self._function(said.concrete_function_name)]
        if kind == "variable":
            return [kind, said.dtype, str(said.shape), said.name]
        children = {child.local_name: self._object(child.node_id) for child in node.children}
        return [kind, said.SerializeToString(deterministic=True).hex() if kind == "resource" else "", children]

    def _function(self, name: str) -> str:
        """A function that objects refer to, with what it has bound."""
        concrete = self._concrete[name]
        signature = [concrete.canonicalized_input_signature, concrete.output_signature]
        return digest_of(
            [
                self._body(name),
                [self._object(number) for number in concrete.bound_inputs],
                [part.SerializeToString(deterministic=True).hex() for part in signature],
            ]
        )

    def _body(self, name: str) -> str:
        if name not in self._known_functions:
            self._known_functions[name] = self._computed_by(self._library[name])
        return self._known_functions[name]

    def _computed_by(self, function: Any) -> str:
        arguments = {arg.name: f"argument {i}" for i, arg in enumerate(function.signature.input_arg)}
        nodes = {node.name: node for node in function.node_def}
        known: dict[str, str] = dict(arguments)

        def digest(source: str) -> str:
            # `^node` orders, `node:output:0` and `argument` carry values.
            name, _, output = source.removeprefix("^").partition(":")
            return f"{'^' if source.startswith('^') else ''}{known[name]}:{output}"

        for name in _in_order(nodes, arguments):
            node = nodes[name]
            values = [digest(source) for source in node.input if not source.startswith("^")]
            orders = sorted(digest(source) for source in node.input if source.startswith("^"))
            functions = {key: self._body(attr.func.name) for key, attr in node.attr.items() if attr.func.name}
            known[name] = digest_of([node.op, _attributes(node, functions), values, orders])
        results = [digest(function.ret[arg.name]) for arg in function.signature.output_arg]
        effects = sorted(known[name] for name in function.control_ret.values())
        kinds = [arg.type for arg in function.signature.input_arg]
        return digest_of([kinds, results, effects])


def _attributes(node: Any, functions: Mapping[str, str]) -> dict[str, str]:
    return {
        key: functions[key] if key in functions else attr.SerializeToString(deterministic=True).hex()
        for key, attr in node.attr.items()
        if key not in _NAMES
    }


def _in_order(nodes: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """The names of nodes, each after those that it reads."""
    ordered: list[str] = []
    done = set(given)
    waiting = list(nodes)[::-1]
    while waiting:
        name = waiting[-1]
        sources = {source.removeprefix("^").partition(":")[0] for source in nodes[name].input}
        missing = sources - done
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        if name not in done:
            done.add(name)
            ordered.append(name)
    return ordered
