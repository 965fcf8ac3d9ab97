"""Examples for Keras: the input pipeline behind `fn_args.data_accessor`, for users' modules to import as well.

Nothing in here needs the rest of ctd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx_bsl.public.tfxio import TensorFlowDatasetOptions

# Compressed bytes of examples that are kept in memory as tensors: some 2 million rows of 20 numbers, under 1 GB.
IN_MEMORY = 256 * 2**20
# Rows that are parsed at once. A batch of training is far too small for that: the call would cost more than the work.
_PARSED_ROWS = 4096
_GZIP_MAGIC = b"\x1f\x8b"
_AUTO = tf.data.AUTOTUNE

Features = Mapping[str, Any]


def dataset(
    files: str | Sequence[str],
    features: Features,
    options: TensorFlowDatasetOptions,
    in_memory: bool | None = None,
) -> tf.data.Dataset:
    """Batches of the tf.Examples in these TFRecord files, gzip or not: a dict of tensors, or (dict, label).

    `files` are patterns, such as `fn_args.train_files`; `features` is what `tf.io.parse_example` takes, such as
    `tft.TFTransformOutput.transformed_feature_spec()`. Options are as in TFX: without `num_epochs` it never ends, and
    has whole batches only.

    Files are read side by side, and many rows are parsed at once. If all features are FixedLenFeatures and the files
    have at most IN_MEMORY bytes, they are read once, and all rows are shuffled anew in every epoch; `in_memory` says
    otherwise. Else they are read in every epoch, and shuffled through a buffer.

    Raises ValueError if no file matches, or `label_key` is not among the features.
    """
    names, label = sorted(tf.io.gfile.glob(files)), options.label_key
    if not names:
        raise ValueError(f"no file matches {files}")
    if label is not None and label not in features:
        raise ValueError(f"the label {label!r} is not among the features {', '.join(sorted(features))}")
    if in_memory is None:
        in_memory = sum(tf.io.gfile.stat(name).length for name in names) <= IN_MEMORY

    def answered(batch: dict[str, Any]) -> Any:
        return batch if label is None else ({name: batch[name] for name in batch if name != label}, batch[label])

    # Nothing here is for an accelerator: what is copied there is batches, by whoever trains.
    with tf.device("/cpu:0"):
        if in_memory and all(isinstance(feature, tf.io.FixedLenFeature) for feature in features.values()):
            table = _read(names, features)
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


def _read(names: Sequence[str], features: Features) -> dict[str, tf.Tensor]:
    """All rows of the files, as one tensor of shape [N, ...] for each feature."""
    parts = list(_records(names).batch(_PARSED_ROWS).map(lambda rows: tf.io.parse_example(rows, features), _AUTO))
    if not parts:
        raise ValueError(f"there are no examples in {', '.join(names)}")
    return {name: tf.concat([part[name] for part in parts], 0) for name in features}


def _batches(rows: tf.data.Dataset, buffer: Any, options: TensorFlowDatasetOptions) -> tf.data.Dataset:
    rows = rows.shuffle(buffer, options.shuffle_seed) if options.shuffle else rows
    rows = rows if options.num_epochs == 1 else rows.repeat(options.num_epochs)
    return rows.batch(options.batch_size, options.drop_final_batch or options.num_epochs is None)
