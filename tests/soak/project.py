"""The project that is soaked: its files, and where everything lies.

All nodes are real. The model is a number worked out of the data, so that two trainings on equal data make equal models,
and training sleeps as long as the run says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAIN, SIDE, TARGET = "main", "side", "serving"

_MODULE = """
import time

import tensorflow as tf
import tensorflow_transform as tft

SECONDS = {seconds}
FACTOR = {factor}


def preprocessing_fn(inputs):
    return {{"miles_xf": tft.scale_to_0_1(inputs["miles"]), "tips": inputs["tips"]}}


def run_fn(fn_args):
    files = tf.io.gfile.glob(fn_args.train_files)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    examples = [tf.train.Example.FromString(r.numpy()) for r in records]
    miles = sorted(e.features.feature["miles_xf"].float_list.value[0] for e in examples)
    time.sleep(SECONDS)

    class Scorer(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(FACTOR * sum(miles) / len(miles))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples):
            parsed = tf.io.parse_example(examples, {{"miles": tf.io.FixedLenFeature([], tf.float32, 0.0)}})
            return {{"probabilities": tf.sigmoid(self.weight * parsed["miles"])[:, None]}}

    scorer = Scorer()
    tf.saved_model.save(scorer, fn_args.serving_model_dir, signatures={{"serving_default": scorer.serve}})
"""

_SPEC = """
pipeline: main
module: ../model.py
nodes:
  examples:
    kind: example_gen
    input: "../data/{{SPAN}}/v{{VERSION}}"
    complete: {{marker: _SUCCESS}}
    splits: {{train: 2, eval: 1}}
  statistics: {{kind: statistics_gen}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  validator: {{kind: example_validator, on_anomaly: quarantine}}
  transform: {{kind: transform, window: {window}}}
  trainer: {{kind: trainer, window: {window}}}
  evaluator: {{kind: evaluator, label_key: tips, metrics: {{MeanSquaredError: {{at_most: {at_most}}}}}}}
  infra: {{kind: infra_validator, requests: 3}}
  pusher: {{kind: pusher, targets: [serving]}}
"""

_SIDE = """
pipeline: side
nodes:
  examples: {kind: example_gen, input: "../side/{SPAN}", complete: {marker: _SUCCESS}}
  statistics: {kind: statistics_gen}
"""

_TARGET = """
target: serving
kind: tf_serving
path: ../disk/serving/{pipeline}
keep: 3
"""

_SCHEMA = """
feature { name: "miles" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "tips" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
"""


@dataclass(frozen=True)
class Wanted:
    """What the spec and the module of `main` say."""

    window: int = 2
    at_most: float = 1000.0  # of an error that is about 6: every model is blessed
    factor: float = 1.0
    seconds: float = 12.0


@dataclass(frozen=True)
class Project:
    """Paths. `disk` is the small one that faults fill: state, targets and the daemon's log lie there; data does not."""

    root: Path

    @property
    def disk(self) -> Path:
        return self.root / "disk"

    @property
    def state(self) -> Path:
        return self.disk / "state"

    @property
    def store(self) -> Path:
        return self.state / "metadata.sqlite"

    @property
    def serving(self) -> Path:
        return self.disk / "serving"

    @property
    def versions(self) -> Path:
        return self.serving / MAIN

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def side(self) -> Path:
        return self.root / "side"

    @property
    def specs(self) -> Path:
        return self.root / "specs"

    @property
    def targets(self) -> Path:
        return self.root / "deploy_targets"

    @property
    def spec(self) -> Path:
        return self.specs / f"{MAIN}.yaml"

    @property
    def module(self) -> Path:
        return self.root / "model.py"

    @property
    def log(self) -> Path:
        return self.disk / "daemon.log"

    def lay_out(self, wanted: Wanted) -> None:
        """All files but data."""
        for folder in (self.specs, self.targets, self.data, self.side, self.disk):
            folder.mkdir(parents=True, exist_ok=True)
        (self.specs / f"{SIDE}.yaml").write_text(_SIDE)
        (self.targets / f"{TARGET}.yaml").write_text(_TARGET)
        (self.root / "schema.pbtxt").write_text(_SCHEMA)
        self.want(wanted)

    def want(self, wanted: Wanted) -> None:
        """Save spec and module as these say; what is as it was is not touched."""
        save(self.module, _MODULE.format(seconds=wanted.seconds, factor=wanted.factor))
        save(self.spec, _SPEC.format(window=wanted.window, at_most=wanted.at_most))

    def flags(self, state: Path | None = None) -> list[str]:
        places = ("--specs", self.specs), ("--targets", self.targets), ("--state", state or self.state)
        return [str(part) for pair in places for part in pair]


def save(path: Path, text: str) -> None:
    """Write a file as editors do: a new one renamed over the old."""
    if not path.exists() or path.read_text() != text:
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
