"""`python -m ctd.deploy.ask_tflite JOB`: what a .tflite file answers, in a process that has only the interpreter."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from ctd.core.partial_import import install
from ctd.deploy.conversion import ANSWER, Feeds, read_feeds, write_feeds

_INTERPRETER = "tensorflow.lite.python.interpreter"


def main() -> None:
    """Do the job."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    if not install([_INTERPRETER]):
        sys.exit("the interpreter cannot be imported from TensorFlow without the rest of it")
    interpreter = importlib.import_module(_INTERPRETER).Interpreter(job["file"])
    (signature,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(signature)
    details = runner.get_input_details()
    answers = []
    for batch in read_feeds(Path(job["feeds"])):
        answers.append(_asked(runner, details, batch))
        # A fused LSTM keeps its state in variable tensors, and every question is one of its own. Resource variables,
        # which a model writes by its own will, stay: they do in the SavedModel too.
        interpreter.reset_all_variables()
    write_feeds(path.with_name("answers.npz"), answers)
    path.with_name(ANSWER).write_text(json.dumps({"batches": len(answers)}))


def _asked(runner: Any, details: Any, batch: Feeds) -> Feeds:
    answer: Feeds = runner(**{name: value.astype(details[name]["dtype"]) for name, value in batch.items()})
    return answer


if __name__ == "__main__":
    main()
