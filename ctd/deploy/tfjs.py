"""A TensorFlow.js graph model a version: `model.json` and weights, loaded and asked in Node before it counts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctd.core.errors import TargetUnavailable
from ctd.deploy.conversion import Feeds, Program

MODEL_FILE = "model.json"
_CONVERTER = Program.of_module("ctd.deploy.to_tfjs", "converting to TensorFlow.js")
_ASK = Path(__file__).with_name("ask_tfjs.mjs")
_PACKAGES = tuple(f"@tensorflow/tfjs-{part}" for part in ("core", "converter", "backend-cpu"))
_VERSION = "4.22.0"
# JSON has no NaN: numbers that are none travel as text.
_ODD = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


@dataclass(frozen=True)
class Tfjs:
    """Conversion by tensorflowjs, answers by TensorFlow.js in Node."""

    quantization: str

    def convert(self, model: Path, signature: str, to: Path, samples: Sequence[Feeds]) -> None:
        """Write `model.json` and its weights."""
        runtime()  # a missing Node is told before the time is spent
        folder = to.with_name(f"{to.name}-work")
        job = {"model": str(model), "signature": signature, "to": str(to), "quantization": self.quantization}
        _CONVERTER.run(folder, job)

    def answers(self, made: Path, feeds: Sequence[Feeds]) -> Sequence[Feeds]:
        """What TensorFlow.js says, read from the files as an app would read them over HTTP."""
        node, library = runtime()
        folder = made.with_name(f"{made.name}-asked")
        program = Program((node, str(_ASK)), "asking the TensorFlow.js model in Node")
        batches = [{name: _as_json(value) for name, value in batch.items()} for batch in feeds]
        answer = program.run(folder, {"model": str(made), "library": library, "feeds": batches})
        return [{name: _from_json(said) for name, said in batch.items()} for batch in answer["answers"]]


def runtime() -> tuple[str, str]:
    """Node, and where TensorFlow.js is: beside the Python that runs, or where Node looks by itself.

    Raises TargetUnavailable that says how to get them.
    """
    node = shutil.which("node")
    if node is None:
        raise TargetUnavailable(
            "Node is needed to try a TensorFlow.js model before it ships, and is not on PATH",
            hint="Install Node 18 or newer; it is tried again.",
        )
    for root in (Path(sys.prefix), *Path(__file__).resolve().parents):
        modules = root / "node_modules"
        if all((modules / package / "package.json").is_file() for package in _PACKAGES):
            return node, str(modules)
    raise TargetUnavailable(
        "TensorFlow.js is needed to try a model before it ships, and is not installed",
        hint=f"npm install --prefix {sys.prefix} {' '.join(f'{p}@{_VERSION}' for p in _PACKAGES)}; it is tried again.",
    )


def _as_json(value: NDArray[Any]) -> dict[str, Any]:
    flat = [x if np.isfinite(x) else str(x) for x in value.ravel().tolist()]
    return {"dtype": str(value.dtype), "shape": list(value.shape), "values": flat}


def _from_json(said: Mapping[str, Any]) -> NDArray[Any]:
    values = [_ODD.get(str(x), x) for x in said["values"]]
    return np.array(values, dtype=said["dtype"]).reshape(said["shape"])
