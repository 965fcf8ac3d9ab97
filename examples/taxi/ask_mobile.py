"""Ask a .tflite file: `ask_mobile.py VERSION_FOLDER < answer.json`, where answer.json is what ask.py printed.

A converted model takes features, not trips: ask.py has the server make them. An app makes them itself, with the words
in the version's `vocabularies/`. On a phone the same interpreter comes as LiteRT, without TensorFlow.
"""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np

from ctd.core import partial_import

INTERPRETER = "tensorflow.lite.python.interpreter"


def main(folder: str) -> None:
    """Print the predictions."""
    partial_import.install([INTERPRETER])  # the interpreter without the rest of TensorFlow
    interpreter = importlib.import_module(INTERPRETER).Interpreter(f"{folder}/model.tflite")
    (signature,) = interpreter.get_signature_list()
    predict = interpreter.get_signature_runner(signature)
    inputs = predict.get_input_details()
    features = json.load(sys.stdin)["features"]
    answer = predict(**{name: np.array(features[name], inputs[name]["dtype"]) for name in inputs})
    print(json.dumps(answer["probabilities"].ravel().tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
