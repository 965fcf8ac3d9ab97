"""Examples for Keras: the input pipeline behind `fn_args.data_accessor`, for users' modules to import as well.

Nothing in here needs the rest of ctd.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx_bsl.public.tfxio import TensorFlowDatasetOptions

# Bytes of a dataset's tensors that are kept in memory: some 3 million rows of 20 numbers, and for training and
# evaluation together about 1 GB. Files say little about it: zeros are 160 times smaller there.
IN_MEMORY = 512 * 2**20
# Rows that are parsed at once. A batch of training is far too small for that: the call would cost more than the work.
_PARSED_ROWS = 4096
_PARSED_BYTES = 32 * 2**20
_STRING = 24  # bytes that TensorFlow takes for a string beside its text
_GZIP_MAGIC = b"\x1f\x8b"
_AUTO = tf.data.AUTOTUNE

Features = Mapping[str, Any]


def dataset(
    files: str | Sequence[str],
    features: Features,
    options: TensorFlowDatasetOptions,
    in_memory: bool | None = None,
    limit: int = IN_MEMORY,
) -> tf.data.Dataset:
    """Batches of the tf.Examples in these TFRecord files, gzip or not: a dict of tensors, or (dict, label).

    `files` are patterns, such as `fn_args.train_files`; `features` is what `tf.io.parse_example` takes, such as
    `tft.TFTransformOutput.transformed_feature_spec()`. Options are as in TFX: without `num_epochs` it never ends, and
    has whole batches only.

    Files are read side by side, and many rows are parsed at once. If all features are FixedLenFeatures and the tensors
    have at most `limit` bytes, they are read once, and all rows are shuffled anew in every epoch. Else they are read in
    every epoch, and shuffled through a buffer: which files are too large is found out by reading them that far.
    `in_memory` says which, whatever the size.

    Raises ValueError if no file matches, or `label_key` is not among the features.
    """
    names, label = sorted(tf.io.gfile.glob(files)), options.label_key
    if not names:
        raise ValueError(f"no file matches {files}")
    if label is not None and label not in features:
        raise ValueError(f"the label {label!r} is not among the features {', '.join(sorted(features))}")
    fixed = all(isinstance(feature, tf.io.FixedLenFeature) for feature in features.values())

    def answered(batch: dict[str, Any]) -> Any:
        return batch if label is None else ({name: batch[name] for name in batch if name != label}, batch[label])

    # Nothing here is for an accelerator: what is copied there is batches, by whoever trains.
    with tf.device("/cpu:0"):
        table = None if in_memory is False or not fixed else _read(names, features, None if in_memory else limit)
        if table is not None:
            rows = tf.data.Dataset.range(len(next(iter(table.values()))))
            batches = _batches(rows, rows.cardinality(), options)
            batches = batches.map(lambda r: answered({name: tf.gather(table[name], r) for name in table}), _AUTO)
        else:
            batches = _batches(_records(names), options.shuffle_buffer_size, options)
            batches = batches.map(lambda r: answered(tf.io.parse_example(r, features)), _AUTO)
        return batches.prefetch(options.prefetch_buffer_size)


def _records(names: Sequence[str]) -> tf.data.Dataset:
    with tf.io.gfile.GFile(names[0], "rb") as file:
        compression = "GZIP" if file.read(2) == _GZIP_MAGIC else ""
    paths = tf.data.Dataset.from_tensor_slices(list(names))
    return paths.interleave(lambda path: tf.data.TFRecordDataset(path, compression), num_parallel_calls=_AUTO)


def _read(names: Sequence[str], features: Features, limit: int | None) -> dict[str, tf.Tensor] | None:
    """All rows of the files, as one tensor of shape [N, ...] for each feature; None if those have more bytes."""
    row = sum(feature.dtype.size * math.prod(feature.shape) for feature in features.values())
    rows = max(1, min(_PARSED_ROWS, _PARSED_BYTES // max(1, row)))
    parts, size = [], 0
    for part in _records(names).batch(rows).map(lambda some: tf.io.parse_example(some, features), _AUTO):
        size += sum(map(_bytes_of, part.values()))
        if limit is not None and size > limit:
            return None
        parts.append(part)
    if not parts:
        raise ValueError(f"there are no examples in {', '.join(names)}")
    # Feature by feature, so that no two copies of all of them are there.
    return {name: tf.concat([part.pop(name) for part in parts], 0) for name in features}


def _bytes_of(tensor: tf.Tensor) -> int:
    if tensor.dtype != tf.string:
        return int(tf.size(tensor, tf.int64) * tensor.dtype.size)
    return int(tf.reduce_sum(tf.cast(tf.strings.length(tensor), tf.int64) + _STRING))


def _batches(rows: tf.data.Dataset, buffer: Any, options: TensorFlowDatasetOptions) -> tf.data.Dataset:
    rows = rows.shuffle(buffer, options.shuffle_seed) if options.shuffle else rows
    rows = rows if options.num_epochs == 1 else rows.repeat(options.num_epochs)
    return rows.batch(options.batch_size, options.drop_final_batch or options.num_epochs is None)
