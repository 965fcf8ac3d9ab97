"""`python -m ctd.deploy.to_tflite JOB`: converts one signature of a SavedModel. See `ctd.deploy.tflite`."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from ctd.deploy.conversion import ANSWER, read_feeds, refusal
from ctd.deploy.tflite import METADATA_FILE, MODEL_FILE, VOCABULARIES
from ctd.deploy.tflite_state import state_of


def main() -> None:
    """Do the job; what the converter says against the model is the answer."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    loaded = tf.saved_model.load(job["model"])
    function = loaded.signatures[job["signature"]]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded)
    _quantize(converter, job)
    try:
        data = converter.convert()
    except Exception as error:  # noqa: BLE001  the converter raises whatever its stages raise
        refused = f"the TFLite converter says: {refusal(error)}"
        hint = _hint(function)
        path.with_name(ANSWER).write_text(json.dumps({"refused": refused, "hint": hint}))
        return
    to = Path(job["to"])
    (to / MODEL_FILE).write_bytes(data)
    _, inputs = function.structured_input_signature
    metadata = {
        "signature": job["signature"],
        "quantization": job["quantization"],
        "inputs": {name: _described(spec) for name, spec in inputs.items()},
        "outputs": {name: _described(spec) for name, spec in function.structured_outputs.items()},
        "state": state_of(data),
        "tensorflow": tf.__version__,
    }
    (to / METADATA_FILE).write_text(json.dumps(metadata, indent=1, sort_keys=True) + "\n")
    # The words that the integers stand for; an app needs them to make the inputs.
    assets = Path(job["model"], "assets")
    if assets.is_dir() and any(assets.iterdir()):
        shutil.copytree(assets, to / VOCABULARIES)
    path.with_name(ANSWER).write_text(json.dumps({"bytes": len(data)}))


def _quantize(converter: Any, job: dict[str, str]) -> None:
    if job["quantization"] == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job["quantization"] == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if job["quantization"] == "int8":
        converter.representative_dataset = lambda: _rows(job["samples"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]


def _hint(function: Any) -> str:
    """What may help against a refusal: a loop that makes lists is converted for a batch of known size only."""
    _, inputs = function.structured_input_signature
    any_size = any(spec.shape.rank and spec.shape[0] is None for spec in inputs.values())
    definition = function.graph.as_graph_def()
    nodes = itertools.chain(definition.node, *(of.node_def for of in definition.library.function))
    if any_size and any(node.op == "TensorListReserve" for node in nodes):
        return (
            "A recurrent layer or another loop does not convert for a batch of any size. Export a signature with the "
            "batch fixed at 1, tf.TensorSpec([1, ...]), and convert that one (`signature:`)."
        )
    return "The ops of this signature have no counterpart in TFLite. Convert another one (`signature:`)."


def _rows(file: str) -> Iterator[dict[str, Any]]:
    """One example at a time, as the calibration wants them."""
    for batch in read_feeds(Path(file)):
        first = next(iter(batch.values()))
        if not first.ndim:  # the signature takes one example at a time
            yield dict(batch)
        for row in range(len(first) if first.ndim else 0):
            yield {name: value[row : row + 1] for name, value in batch.items()}


def _described(spec: tf.TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": [size if size is not None else -1 for size in spec.shape]}


if __name__ == "__main__":
    main()
