"""Ask a version of the model repository: `ask_hub.py HANDLE < answer.json`, where answer.json is what ask.py printed.

HANDLE is a version's folder, or its address on a server that serves the repository over HTTP.
"""

from __future__ import annotations

import base64
import json
import sys

import tensorflow as tf
import tensorflow_hub as hub


def main(handle: str) -> None:
    """Print the predictions."""
    model = hub.load(handle)
    examples = [base64.b64decode(example) for example in json.load(sys.stdin)["examples"]]
    answer = model.signatures["serving_default"](examples=tf.constant(examples))
    print(json.dumps(answer["probabilities"].numpy().ravel().tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
