"""How many examples a model is asked about at once, as its memory allows, and batches cut to the same rows.

What a batch takes is in no file: a record of a few kilobytes is an image of megabytes after two convolutions. So the
first batches are small, and each is measured before the next one is larger.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from resource import getpagesize
from typing import Any, TypeVar, cast

import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.utils import util

Extracts = dict[str, Any]
T = TypeVar("T")

MOST = 4096  # rows
ROOM = 256 << 20  # bytes that a batch may take beside libraries, model and what was there before
_FIRST = 2  # rows: some models drop the dimension of a batch of one
_GROWTH = 64
_TELLING = 64  # rows: a call with so many takes longer than the time between two looks at the memory
_EVERY = 0.001  # seconds between two looks at the memory
_STATM = Path("/proc/self/statm")


class Batching:
    """Asks about a stream of examples in batches of as many rows as fit into memory."""

    def __init__(self, room: int = ROOM, most: int = MOST) -> None:
        self._room, self._most = room, most
        self._rows, self._bytes = min(_FIRST, most), 0.0
        self._warm = self._settled = False

    def each(self, ask: Callable[[Extracts], T], examples: Iterable[Extracts]) -> Iterator[T]:
        """What `ask` says of each batch, in the order of the examples."""
        for there in examples:
            begin, rows = 0, rows_of(there)
            while begin < rows:
                end = self._end(there, begin)
                part = there if (begin, end) == (0, rows) else cut(there, begin, end)
                yield ask(part) if self._settled else self._measured(ask, part)
                begin = end

    def _end(self, there: Extracts, begin: int) -> int:
        """Where the next batch ends. What is left is never a single row, and larger records make fewer rows."""
        rows = rows_of(there)
        end = min(begin + self._rows, rows)
        if self._bytes:
            sizes = np.cumsum([len(record) for record in there[constants.INPUT_KEY][begin:end]])
            end = begin + max(1, int(np.searchsorted(sizes, 2 * self._rows * self._bytes, side="right")))
        return rows if self._rows > 1 and rows - end == 1 else end

    def _measured(self, ask: Callable[[Extracts], T], batch: Extracts) -> T:
        before = allocated()
        with MemoryPeak() as peak:
            answer = ask(batch)
        rows = rows_of(batch)
        self._grow(rows, (peak.most - before) / rows)
        if self._settled:
            self._bytes = sum(map(len, batch[constants.INPUT_KEY])) / rows
        return answer

    def _grow(self, rows: int, each: float) -> None:
        """The next number of rows, given what each of these took: a power of two, so that noise changes it rarely."""
        fitting = 1 << int(min(self._most, max(self._room / max(each, 1), 1))).bit_length() - 1
        grown = min(fitting, _GROWTH * rows)
        if self._warm:
            self._settled = fitting <= rows or (fitting >= self._most and rows >= _TELLING)
            grown = fitting if self._settled else grown
        # The first call makes what later ones use, so that its examples seem to take more than they do.
        self._rows = grown if self._warm else max(grown, self._rows)
        self._warm = True


def allocated() -> int:
    """The bytes of the process, without what its allocator kept of earlier work."""
    ctypes.CDLL(None).malloc_trim(0)
    return _resident()


class MemoryPeak:
    """The most bytes that the process had inside a `with` block."""

    def __enter__(self) -> MemoryPeak:
        self.most, self._done = _resident(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.most = max(self.most, _resident())

    def _look(self) -> None:
        while not self._done.wait(_EVERY):
            self.most = max(self.most, _resident())


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * getpagesize()


def rows_of(batch: Mapping[str, Any]) -> int:
    """How many examples a batch has."""
    return len(batch[constants.INPUT_KEY])


def counted(rows: int) -> Any:
    """What stands for so many serialized examples where only their number is of interest."""
    return np.zeros(rows, dtype=bool)


def in_step(*streams: Iterable[Extracts]) -> Iterator[tuple[Extracts, ...]]:
    """What several streams say of the same examples, as batches of the same rows. ValueError if one ends first."""
    iterators = [iter(stream) for stream in streams]
    heads: list[Extracts | None] = [next(one, None) for one in iterators]
    while all(head is not None for head in heads):
        there = cast("list[Extracts]", heads)
        rows = min(map(rows_of, there))
        yield tuple(head if rows_of(head) == rows else cut(head, 0, rows) for head in there)
        heads = [
            next(one, None) if rows_of(head) == rows else cut(head, rows, rows_of(head))
            for one, head in zip(iterators, there, strict=True)
        ]
    if any(head is not None for head in heads):
        raise ValueError("one stream has fewer examples than another")


def cut(value: Any, begin: int, end: int) -> Any:
    """These rows of a value as TFMA has it, or of every value in a batch."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: cut(part, begin, end) for key, part in value.items()}
    if isinstance(value, types.RaggedTensorValue):
        return util.to_ragged_tensor_value(util.to_tensorflow_tensor(value)[begin:end])
    if isinstance(value, (types.VarLenTensorValue, types.SparseTensorValue)):
        inside = (value.indices[:, 0] >= begin) & (value.indices[:, 0] < end)
        indices = value.indices[inside]
        indices = indices - np.eye(1, indices.shape[1], dtype=indices.dtype) * begin
        return type(value)(value.values[inside], indices, np.array([end - begin, *value.dense_shape[1:]]))
    return value[begin:end]
