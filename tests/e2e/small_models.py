"""SavedModels that cost nothing to train, each with its own answer, and what tells them apart on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctd.serving import warmup
from ctd.serving.client import predict_request

Files = dict[str, bytes]


def write(folder: Path, factor: float) -> Path:
    """A model that multiplies x by its factor, with a warm-up request: that is what a push asks its server."""
    module = tf.Module()
    module.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": module.factor * x}

    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    warmup.write(folder, [predict_request("small", "serving_default", {"x": np.array([3.0], np.float32)})])
    return folder


def without_values(model: Path, copy: Path) -> Path:
    """A copy that no server can load: it has lost the values of its variables."""
    shutil.copytree(model, copy)
    (copy / "of").write_text(model.name)  # each such copy is another model
    next((copy / "variables").glob("*.data-*")).unlink()
    return copy


def files(folder: Path) -> Files:
    """The content of every file below a folder. Raises FileNotFoundError if one goes while they are read."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sizes_in(content: Files) -> dict[str, int]:
    """The sizes of files by name."""
    return {name: len(data) for name, data in content.items()}


def sizes(folder: Path) -> dict[str, int]:
    """The size of every file below a folder. Raises FileNotFoundError if one goes meanwhile."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
