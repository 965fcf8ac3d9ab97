"""The memory that an evaluation of images takes at the most, by ctd and by TFMA's own pipeline.

`python -m bench.evaluation_memory [--examples 300 2275] [--side 64] [--only ctd]`. Each measurement is a process of its
own. Images are PNGs of noise, decoded by the model, which has two convolutions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma

from ctd.components import evaluator
from ctd.components.api import SERVING_DIR, Work
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.work import Request
from ctd.specs.nodes import EvaluatorSpec

LABEL, IMAGE = "label", "image_raw"
SPEC = EvaluatorSpec(kind="evaluator", label_key=LABEL, metrics={"BinaryAccuracy": {"at_least": 0.0}})
FILTERS = 32


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, nargs="+", default=[300, 2275])
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--only", choices=[*_BY], help="measure one side only")
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        by, folder = options.here
        print(json.dumps(_measured(_BY[by], Path(folder))))
        return
    print("| examples | MB of examples | by | seconds | MB of memory at the most |")
    print("|---|---|---|---|---|")
    for many in options.examples:
        with tempfile.TemporaryDirectory() as folder:
            size = write_images(Path(folder, "examples"), many, options.side) / 1e6
            write_model(Path(folder, "model"), options.side)
            for by in [options.only] if options.only else _BY:
                found = in_a_process(by, Path(folder))
                print(
                    f"| {many:,} | {size:.0f} | {by} | {found['seconds']:.1f} | {found['megabytes']:,.0f} |", flush=True
                )


def in_a_process(by: str, folder: Path) -> Mapping[str, float]:
    """Seconds, and megabytes at the most, of an evaluation in a process of its own."""
    command = [sys.executable, "-m", "bench.evaluation_memory", "--here", by, str(folder)]
    said: Mapping[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return said


def write_images(folder: Path, many: int, side: int) -> int:
    """Write Examples of PNGs with labels; how many bytes they are."""
    split, size, random = folder / "Split-eval", 0, np.random.default_rng(1)
    split.mkdir(parents=True)
    path = split / "data_tfrecord-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP", compression_level=1)) as writer:
        for number in range(many):
            png = tf.io.encode_png(random.integers(0, 256, (side, side, 3), np.uint8)).numpy()
            example = tf.train.Example()
            example.features.feature[IMAGE].bytes_list.value.append(png)
            example.features.feature[LABEL].int64_list.value.append(number % 2)
            writer.write(record := example.SerializeToString())
            size += len(record)
    return size


def write_model(folder: Path, side: int) -> None:
    """Write a SavedModel of serialized examples: decoding, two convolutions, a mean and a sigmoid."""
    module, random = tf.Module(), np.random.default_rng(2)
    module.first = tf.Variable(random.normal(0, 0.2, (3, 3, 3, FILTERS)).astype(np.float32))
    module.second = tf.Variable(random.normal(0, 0.05, (3, 3, FILTERS, FILTERS)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        png = tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]
        pixels = tf.map_fn(lambda one: tf.io.decode_png(one, 3), png, fn_output_signature=tf.uint8)
        seen = tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, side, side, 3])
        for weights in (module.first, module.second):
            seen = tf.nn.relu(tf.nn.conv2d(seen, weights, 1, "SAME"))
        return {"score": tf.sigmoid(tf.reduce_mean(seen, [1, 2, 3])[:, None])}

    module.serve = serve
    tf.saved_model.save(module, str(folder / SERVING_DIR), {"serving_default": serve})


def _by_ctd(folder: Path) -> None:
    examples = Artifact(ArtifactType.EXAMPLES, str(folder / "examples"), "d", 1, 0, {"split_names": '["eval"]'}, id=1)
    model = Artifact(ArtifactType.MODEL, str(folder / "model"), "m", id=2)
    asked = Request(
        execution_id=1,
        pipeline="bench",
        node="evaluator",
        kind="evaluator",
        key="all",
        entrypoint="ctd.components.evaluator",
        staging=tempfile.mkdtemp(dir=folder),
        spec=SPEC.model_dump(mode="json"),
        outputs={"evaluation": ArtifactType.EVALUATION},
        inputs={"examples": (examples,), "model": (model,)},
    )
    evaluator.run(Work(asked))


def _by_tfma(folder: Path) -> None:
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(label_key=LABEL)],
        metrics_specs=[
            tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name=n) for n in ("ExampleCount", "BinaryAccuracy")])
        ],
    )
    tfma.run_model_analysis(
        eval_shared_model=tfma.default_eval_shared_model(str(folder / "model" / SERVING_DIR), eval_config=config),
        eval_config=config,
        data_location=str(folder / "examples" / "Split-eval" / "*"),
        output_path=tempfile.mkdtemp(dir=folder),
    )


_BY: Mapping[str, Callable[[Path], None]] = {"ctd": _by_ctd, "TFMA": _by_tfma}


def _measured(run: Callable[[Path], None], folder: Path) -> Mapping[str, float]:
    began = time.monotonic()
    run(folder)
    seconds = time.monotonic() - began
    # Not ru_maxrss, which begins with what the parent had at the fork.
    (most,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": seconds, "megabytes": int(most) * 1024 / 1e6}


if __name__ == "__main__":
    main()
