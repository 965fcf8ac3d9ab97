"""`python -m ctd.deploy.to_tfjs JOB`: converts one signature of a SavedModel. See `ctd.deploy.tfjs`.

The converter wants a SavedModel with nothing in it but what is converted: lookup tables of other signatures make it
fail. So the signature is frozen and written as a SavedModel of its own first.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ctd.deploy.conversion import ANSWER, refusal
from ctd.deploy.tfjs_graph import mend, prepare, write_readable

_SIGNATURE = "serving_default"
_CONVERTER = "tensorflowjs.converters.tf_saved_model_conversion_v2"


def main() -> None:
    """Do the job; what the converter says against the model is the answer."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    quantization = None if job["quantization"] == "none" else {job["quantization"]: "*"}
    with tempfile.TemporaryDirectory() as alone:
        _write_alone(job["model"], job["signature"], alone)
        try:
            _converter().convert_tf_saved_model(
                alone,
                job["to"],
                signature_def=_SIGNATURE,
                quantization_dtype_map=quantization,
                use_structured_outputs_names=True,
                metadata={"ctd": {"signature": job["signature"], "quantization": job["quantization"]}},
            )
        except Exception as error:  # noqa: BLE001  the converter raises whatever its stages raise
            refused = f"the TensorFlow.js converter says: {refusal(error)}"
            hint = "The ops of this signature have no counterpart in TensorFlow.js. Convert another one (`signature:`)."
            path.with_name(ANSWER).write_text(json.dumps({"refused": refused, "hint": hint}))
            return
        _finish(Path(job["to"], "model.json"), alone)
    path.with_name(ANSWER).write_text("{}")


def _finish(path: Path, alone: str) -> None:
    """Mend the functions, and give the outputs their own names, in the order that the runtime takes them in.

    Inputs it finds by name.

    The runtime pairs `structuredOutputKeys`, which the converter sorts, by position with the keys of
    `signature.outputs`, which stand there as a map of protobuf happens to give them; and where two are of one type and
    shape, those keys are names of tensors. JavaScript moves keys that look like an index to the front.
    """
    function = tf.saved_model.load(alone).signatures[_SIGNATURE]
    outputs = dict(zip(sorted(function.structured_outputs), (t.name for t in function.outputs), strict=True))
    order = sorted(outputs, key=lambda name: (not _is_index(name), int(name) if _is_index(name) else 0, name))
    model = json.loads(path.read_text())
    signature = model["signature"]
    said = {entry["name"]: entry for entry in signature["outputs"].values()}
    signature["outputs"] = {name: said[outputs[name]] for name in order}
    model["userDefinedMetadata"]["structuredOutputKeys"] = order
    mend(model["modelTopology"])
    path.write_text(json.dumps(model))


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < 2**32 - 1


def _converter() -> Any:
    """The converter without what it imports for other kinds of model: a third of its time and memory."""
    jax = types.ModuleType("tensorflowjs.converters.jax_conversion")
    jax.convert_jax = None  # type: ignore[attr-defined]  # imported by name, for JAX models only
    for module in (jax, types.ModuleType("tensorflow_decision_forests")):
        sys.modules.setdefault(module.__name__, module)
    return importlib.import_module(_CONVERTER)


def _write_alone(model: str, signature: str, to: str) -> None:
    with tempfile.TemporaryDirectory() as readable:
        write_readable(Path(model), Path(readable))
        loaded = tf.saved_model.load(readable)  # as long as it lives, its variables do
        function = loaded.signatures[signature]
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    _, inputs = function.structured_input_signature
    names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
    placeholders = dict(zip((tensor.name for tensor in frozen.inputs), _order(names, inputs), strict=True))
    graph = prepare(frozen.graph.as_graph_def())
    outputs = sorted(function.structured_outputs)

    @tf.function(input_signature=[{name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()}])
    def alone(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        given = {placeholder: features[name] for placeholder, name in placeholders.items()}
        wanted = [tensor.name for tensor in frozen.outputs]
        return dict(zip(outputs, tf.graph_util.import_graph_def(graph, given, wanted), strict=True))

    tf.saved_model.save(tf.Module(), to, {_SIGNATURE: alone})


def _order(placeholders: list[str], inputs: dict[str, tf.TensorSpec]) -> list[str]:
    """Inputs in the order of the frozen function's: their placeholders are called after the signature's keys."""
    found = [name.removeprefix(f"{_SIGNATURE}_") for name in placeholders]
    return found if sorted(found) == sorted(inputs) else sorted(inputs)


if __name__ == "__main__":
    main()
