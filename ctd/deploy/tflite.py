"""One `.tflite` file a version, with what an app needs to feed it: names, types, and the vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctd.deploy.conversion import Feeds, Program, read_feeds, write_feeds

MODEL_FILE = "model.tflite"
METADATA_FILE = "metadata.json"
VOCABULARIES = "vocabularies"
_CONVERTER = Program.of_module("ctd.deploy.to_tflite", "converting to TFLite")
_INTERPRETER = Program.of_module("ctd.deploy.ask_tflite", "asking the TFLite model")


@dataclass(frozen=True)
class Tflite:
    """Conversion by TensorFlow's own converter, answers by the interpreter in a process without TensorFlow."""

    quantization: str

    def convert(self, model: Path, signature: str, to: Path, samples: Sequence[Feeds]) -> None:
        """Write `model.tflite`, `metadata.json` and the vocabulary files."""
        folder = to.with_name(f"{to.name}-work")
        folder.mkdir()
        write_feeds(folder / "samples.npz", samples)
        job = {"model": str(model), "signature": signature, "to": str(to), "quantization": self.quantization}
        _CONVERTER.run(folder, {**job, "samples": str(folder / "samples.npz")})

    def answers(self, made: Path, feeds: Sequence[Feeds]) -> Sequence[Feeds]:
        """What the interpreter says."""
        folder = made.with_name(f"{made.name}-asked")
        folder.mkdir()
        write_feeds(folder / "feeds.npz", feeds)
        _INTERPRETER.run(folder, {"file": str(made / MODEL_FILE), "feeds": str(folder / "feeds.npz")})
        return read_feeds(folder / "answers.npz")
