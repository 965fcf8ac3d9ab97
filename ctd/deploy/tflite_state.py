"""What a TFLite model remembers between two questions, as the card of a version tells the app."""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema

_RESET = (
    "Interpreter.reset_all_variables() in Python, ResetVariableTensors() in C++, resetVariableTensors() in Java: "
    "call it before each question that does not go on where the last one ended."
)
_OWN = "The model itself writes variables: they stay until a new interpreter is made."


def state_of(model: bytes) -> dict[str, Any]:
    """`kept` says what stays between questions, `app` what an app must do.

    Variable tensors are those of fused recurrent layers; resource variables are those that the model assigns to.
    """
    graphs = schema.ModelT.InitFromPackedBuf(model, 0)
    tensors = any(tensor.isVariable for graph in graphs.subgraphs for tensor in graph.tensors or [])
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in graphs.operatorCodes]
    resources = schema.BuiltinOperator.ASSIGN_VARIABLE in codes
    kept = [("variable tensors", _RESET)] * tensors + [("resource variables", _OWN)] * resources
    return {"kept": [name for name, _ in kept], "app": " ".join(advice for _, advice in kept)}
