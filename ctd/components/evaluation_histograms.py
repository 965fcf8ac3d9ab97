"""TFMA's histograms of predictions, kept as columns, and the confusion matrices that TFMA derives from them.

Its own are lists of ten thousand buckets for each slice, which take longer to make and to walk than all the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow_model_analysis.metrics import binary_confusion_matrices, calibration_histogram

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Bins(Sequence[Any]):
    """A histogram of TFMA's, kept as columns: a list of ten thousand buckets is slow to make and to walk."""

    ids: Array
    labels: Array
    predictions: Array
    examples: Array

    @classmethod
    def of(cls, histogram: Sequence[Any]) -> Bins:
        if isinstance(histogram, Bins):
            return histogram
        rows = [(b.bucket_id, b.weighted_labels, b.weighted_predictions, b.weighted_examples) for b in histogram]
        ids, *sums = np.array(rows, np.float64).reshape(-1, 4).T
        return cls(ids.astype(np.int64), *sums)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        sums = (float(column[index]) for column in (self.labels, self.predictions, self.examples))
        return calibration_histogram.Bucket(int(self.ids[index]), *sums)


def rebin(
    thresholds: Sequence[float],
    histogram: Sequence[Any],
    num_buckets: int = calibration_histogram.DEFAULT_NUM_BUCKETS,
    left: float = 0.0,
    right: float = 1.0,
) -> Bins:
    """What TFMA's function of this name gives, for columns."""
    bins = Bins.of(histogram)
    starts = (bins.ids - 1) / num_buckets * (right - left) + left
    starts = np.where(bins.ids == 0, -np.inf, np.where(bins.ids >= num_buckets + 1, np.inf, starts))
    places = np.searchsorted(thresholds, starts, side="right") - 1
    sums = (bins.labels, bins.predictions, bins.examples)
    size = len(thresholds)
    return Bins(np.arange(size), *(np.bincount(np.maximum(places, 0), column, size) for column in sums))


def confusion_matrices(thresholds: list[float], histogram: Sequence[Any]) -> Any:
    """What TFMA's `_histogram_to_binary_confusion_matrices` gives, for columns."""
    bins = Bins.of(histogram)
    positive, negative = bins.labels, bins.examples - bins.labels
    first = 1 if (thresholds[0] >= 0 or len(thresholds) == 1) and len(bins) > 1 else 0
    cut = slice(first, first + len(thresholds))
    tp, fp = (np.cumsum(side[::-1])[::-1][cut] for side in (positive, negative))
    fn, tn = (np.concatenate([[0.0], np.cumsum(side[:-1])])[cut] for side in (positive, negative))
    beyond = np.asarray(thresholds)[: len(tp)] >= 1.0 + binary_confusion_matrices._EPSILON
    tp, fp = np.where(beyond, 0.0, tp), np.where(beyond, 0.0, fp)
    fn, tn = np.where(beyond, tp[:1], fn), np.where(beyond, fp[:1], tn)
    return binary_confusion_matrices.Matrices(thresholds, tp.tolist(), tn.tolist(), fp.tolist(), fn.tolist())


@contextlib.contextmanager
def columns_for_histograms() -> Iterator[None]:
    """Have TFMA derive its confusion matrices from columns; its own loops take longer than all the rest.

    They are called by closures of TFMA's, which find them in these modules and can be given no others.
    """
    places = (
        (calibration_histogram, "rebin", rebin),
        (binary_confusion_matrices, "_histogram_to_binary_confusion_matrices", confusion_matrices),
    )
    own = [getattr(module, name) for module, name, _ in places]
    try:
        for module, name, quick in places:
            setattr(module, name, quick)
        yield
    finally:
        for (module, name, _), function in zip(places, own, strict=True):
            setattr(module, name, function)
