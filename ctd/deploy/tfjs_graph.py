"""Graphs on their way to TensorFlow.js: loops and conditionals in the form that its converter and runtime hold to.

What is done here was tried with TensorFlow 2.16 and TensorFlow.js 4.22. The runtime has two forms of control flow. A
loop that is lowered to Switch and Merge keeps its TensorLists, which a functional one loses. A conditional stays
functional unless it leads to TensorLists: lowered, a branch that returns a constant is taken always.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorflow.core.framework import node_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2

_LOOPS = frozenset({"While", "StatelessWhile"})
_CONDITIONALS = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_CALLERS = _LOOPS | _CONDITIONALS | {"PartitionedCall", "StatefulPartitionedCall"}
_GATHERS = {"ResourceGather": "GatherV2", "ResourceGatherNd": "GatherNd"}
_NEW_LISTS = {"TensorListReserve": 1, "EmptyTensorList": 1}  # the input that is a number of elements
_OURS = "_for_tfjs"
_LOWER = "_lower_using_switch_merge"
_FILE = "saved_model.pb"


def write_readable(model: Path, to: Path) -> None:
    """Make the folder `to` the same SavedModel, but that its functions read variables whole before they gather.

    TensorFlow does not freeze a variable of which a function gathers rows, as an embedding in a loop does.
    """
    saved = saved_model_pb2.SavedModel.FromString((model / _FILE).read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            _read_before_gathering(function)
    (to / _FILE).write_bytes(saved.SerializeToString())
    for part in ("variables", "assets"):
        if (model / part).is_dir():
            (to / part).symlink_to((model / part).resolve())


def _read_before_gathering(function: Any) -> None:
    for node in [node for node in function.node_def if node.op in _GATHERS]:
        read = function.node_def.add(name=f"{node.name}/read", op="ReadVariableOp", input=node.input[:1])
        read.attr["dtype"].type = node.attr["dtype"].type
        node.input[0] = f"{read.name}:value:0"
        if node.op == "ResourceGather":
            node.input.insert(2, f"{_axis(function, node)}:output:0")
            node.attr["Taxis"].type = types_pb2.DT_INT32
        node.attr["Tparams"].type = node.attr["dtype"].type
        node.op = _GATHERS[node.op]
        for gone in {"dtype", "validate_indices"} & set(node.attr):
            del node.attr[gone]


def _axis(function: Any, gather: Any) -> str:
    """A constant for the axis that is gathered from: the first after those of the batch."""
    axis = function.node_def.add(name=f"{gather.name}/axis", op="Const")
    axis.attr["dtype"].type = types_pb2.DT_INT32
    value = axis.attr["value"].tensor
    value.dtype = types_pb2.DT_INT32
    value.tensor_shape.SetInParent()
    value.int_val.append(gather.attr["batch_dims"].i)
    return str(axis.name)


def prepare(graph: Any) -> Any:
    """Mark what the converter is to lower in a frozen GraphDef, and keep the lists of each loop apart. Returns it."""
    _rename_functions(graph)
    functions = {function.signature.name: function for function in graph.library.function}
    for node, function in _reached(graph, functions):
        if node.op in _LOOPS or _is_lowered(node, functions):
            node.attr[_LOWER].b = True
        elif node.op in _NEW_LISTS and function is not None:
            _each_time(node, function)
    return graph


def _rename_functions(graph: Any) -> None:
    """TensorFlow knows the functions by their names already, and as they were."""
    functions = graph.library.function
    for function in functions:
        function.signature.name += _OURS
    for node in itertools.chain(graph.node, *(function.node_def for function in functions)):
        for called in _called(node):
            called.name += _OURS


def _reached(graph: Any, functions: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The nodes, each with its function or none; not those of functions that a functional conditional leads to."""
    left: list[tuple[Any, Any]] = [(node, None) for node in graph.node]
    seen: set[str] = set()
    while left:
        node, function = left.pop()
        yield node, function
        stays = node.op in _CONDITIONALS and not _is_lowered(node, functions)
        for called in () if stays else _called(node):
            if called.name not in seen:
                seen.add(called.name)
                left += [(inner, functions[called.name]) for inner in functions[called.name].node_def]


def _is_lowered(node: Any, functions: Mapping[str, Any]) -> bool:
    """Whether it is a conditional that leads to TensorLists."""
    return node.op in _CONDITIONALS and _has_lists(node, functions)


def _has_lists(node: Any, functions: Mapping[str, Any]) -> bool:
    if node.op.startswith("TensorList"):
        return True
    inner = (of for called in _called(node) for of in functions[called.name].node_def)
    return any(_has_lists(of, functions) for of in inner)


def _called(node: Any) -> Iterator[Any]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func
        yield from value.list.func


def _each_time(node: Any, function: Any) -> None:
    """Have a list that a loop's body makes be made in each round, where the counter of rounds is the first argument.

    The runtime makes what depends on constants alone only once, and writes to lists in place. The least of n and the
    greater of n and the counter is n, which no optimizer knows.
    """
    constants = {of.name for of in function.node_def if of.op == "Const"}
    size = node.input[_NEW_LISTS[node.op]]
    counter = function.signature.input_arg[:1]
    if size.partition(":")[0] not in constants or not counter or counter[0].type != types_pb2.DT_INT32:
        return
    of_type = {"T": counter[0].type}
    most = _op(f"{node.name}/most", "Maximum", [size, counter[0].name], of_type)
    least = _op(f"{node.name}/least", "Minimum", [size, f"{most.name}:z:0"], of_type)
    function.node_def.extend([most, least])
    node.input[_NEW_LISTS[node.op]] = f"{least.name}:z:0"


def _op(name: str, op: str, inputs: list[str], types: Mapping[str, int]) -> Any:
    node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    for attr, kind in types.items():
        node.attr[attr].type = kind
    return node


def mend(topology: dict[str, Any]) -> None:
    """Put right what the converter writes of functions that stay, in the `modelTopology` of model.json.

    It renames a function's constants, but not where the function returns one, and also where only the beginning of a
    name is that of a constant. The runtime takes control inputs of a call for arguments, and wants lists of arguments
    that are empty, which JSON of protobuf leaves out.
    """
    functions = topology.get("library", {}).get("function", [])
    for node in itertools.chain(topology["node"], *(function.get("nodeDef", []) for function in functions)):
        if node["op"] in _CALLERS:
            node["input"] = [name for name in node.get("input", []) if not name.startswith("^")]
    for function in functions:
        _mend_names(function)


def _mend_names(function: dict[str, Any]) -> None:
    signature, nodes = function["signature"], function.get("nodeDef", [])
    known = {of["name"] for of in (*nodes, *signature.setdefault("inputArg", []))}
    for node in nodes:
        node["input"] = [_known(name, signature["name"], known) for name in node.get("input", [])]
    returned = function.get("ret", {})
    function["ret"] = {key: _known(name, signature["name"], known) for key, name in returned.items()}


def _known(said: str, function: str, known: set[str]) -> str:
    """A reference to a node that there is: its name may lack that of the function before it, or have it for nothing."""
    name, colon, output = said.removeprefix("^").partition(":")
    control = "^" * said.startswith("^")
    for other in (name, f"{function}/{name}", name.removeprefix(f"{function}/")):
        if other in known:
            return f"{control}{other}{colon}{output}"
    return said
