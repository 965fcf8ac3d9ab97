"""Requests for the same signature that arrive together run as one: TensorFlow Serving's --enable_batching.

Batches are formed per loaded version, signature, outputs and shape of a row, so what cannot run together never meets,
and nothing is padded that need not be. A batch runs when it is full, when another has begun behind it, or when its
first request has waited long enough. Unlike in TensorFlow Serving a request that makes a batch fail fails alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from ctd.serving.codec import Array
from ctd.serving.errors import Code, ServingError, invalid

Feeds = Mapping[str, Array]
Run = Callable[[Feeds], dict[str, Array]]


@dataclass(frozen=True)
class Parameters:
    """A BatchingParameters file; the defaults are TensorFlow Serving's, with a thread for each of two cores."""

    max_batch_size: int = 1000
    timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = 2
    allowed_sizes: tuple[int, ...] = ()
    pad_variable_lengths: bool = False

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_enqueued_batches < 1 or self.threads < 1 or self.timeout_seconds < 0:
            raise invalid("batching parameters: sizes and threads must be at least 1, the timeout at least 0")
        if list(self.allowed_sizes) != sorted(set(self.allowed_sizes)) or min(self.allowed_sizes, default=1) < 1:
            raise invalid("allowed_batch_sizes entries must be in ascending order")
        if self.allowed_sizes and self.allowed_sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{self.allowed_sizes[-1]}; expected {self.max_batch_size}"
            )

    def padded(self, size: int) -> int:
        """The number of rows that a batch of so many runs with."""
        return next((allowed for allowed in self.allowed_sizes if allowed >= size), size)


@dataclass(eq=False)
class _Task:
    """One request in a batch."""

    feeds: Feeds
    rows: int
    done: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Array] = field(default_factory=dict)
    error: ServingError | None = None


@dataclass(eq=False)
class _Batch:
    """Requests that will run together; once begun, nothing is added or taken out."""

    opened_at: float
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    begun: bool = False


@dataclass(eq=False)
class _Queue:
    """The batches of one kind, oldest first; only the last one takes more."""

    run: Run
    batches: deque[_Batch] = field(default_factory=deque)


class Batcher:
    """The queues of one server and the threads that run them."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._queues: dict[Hashable, _Queue] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(parameters.threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Run what is queued, then end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def run(self, key: Hashable, feeds: Feeds, run: Run, deadline: float | None = None) -> dict[str, Array]:
        """The answer to one request, which may have run together with others of this key."""
        task = _Task(feeds, _rows(feeds))
        if task.rows > self._parameters.max_batch_size:
            raise invalid(
                f"Task size {task.rows} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        batch = self._enqueue((key, self._shapes(feeds)), task, run)
        if not task.done.wait(None if deadline is None else max(deadline - monotonic(), 0)):
            self._withdraw(batch, task)
        if task.error:
            raise task.error
        return task.answer

    def _shapes(self, feeds: Feeds) -> Hashable:
        """What rows must have in common to run together."""
        padded = self._parameters.pad_variable_lengths
        return tuple((name, array.ndim if padded and array.size else array.shape[1:]) for name, array in feeds.items())

    def _enqueue(self, key: Hashable, task: _Task, run: Run) -> _Batch:
        with self._changed:
            if self._stopping:
                raise ServingError(Code.UNAVAILABLE, "the server is stopping")
            queue = self._queues.setdefault(key, _Queue(run))
            batch = queue.batches[-1] if queue.batches else None
            if batch is None or batch.rows + task.rows > self._parameters.max_batch_size:
                if len(queue.batches) >= self._parameters.max_enqueued_batches:
                    raise ServingError(
                        Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                    )
                batch = _Batch(monotonic())
                queue.batches.append(batch)
            batch.tasks.append(task)
            batch.rows += task.rows
            self._changed.notify()
            return batch

    def _withdraw(self, batch: _Batch, task: _Task) -> None:
        """Take a request out whose deadline has passed; one that is already running is waited for."""
        with self._changed:
            if not batch.begun:
                batch.tasks.remove(task)
                batch.rows -= task.rows
                raise ServingError(
                    Code.DEADLINE_EXCEEDED, "the request's deadline passed while it waited for its batch to run"
                )
        task.done.wait()  # the version may not be unloaded under a running batch, so its lease must last

    def _work(self) -> None:
        while taken := self._take():
            run, tasks = taken
            if tasks:
                self._answer(run, tasks)

    def _take(self) -> tuple[Run, list[_Task]] | None:
        """Wait for a batch that is due; None when there is nothing left to do."""
        with self._changed:
            while True:
                key, due_at = self._next()
                if key is None and self._stopping:
                    return None
                if key is not None and (due_at <= monotonic() or self._stopping):
                    break
                self._changed.wait(None if key is None else due_at - monotonic())
            queue = self._queues.pop(key)
            batch = queue.batches.popleft()
            batch.begun = True
            if queue.batches:
                self._queues[key] = queue  # behind the others: every kind has its turn
                self._changed.notify()
            return queue.run, batch.tasks

    def _next(self) -> tuple[Hashable | None, float]:
        """The queue whose first batch is due first, and when."""
        first: tuple[Hashable | None, float] = (None, float("inf"))
        for key, queue in self._queues.items():
            batch = queue.batches[0]
            closed = len(queue.batches) > 1 or batch.rows >= self._parameters.max_batch_size
            due_at = 0.0 if closed else batch.opened_at + self._parameters.timeout_seconds
            if due_at < first[1]:
                first = (key, due_at)
        return first

    def _answer(self, run: Run, tasks: Sequence[_Task]) -> None:
        try:
            self._run_together(run, tasks)
        except ServingError as error:
            if len(tasks) == 1:
                tasks[0].error = error
            else:
                for task in tasks:  # whose fault it was shows when each runs alone
                    self._answer(run, [task])
        for task in tasks:
            task.done.set()

    def _run_together(self, run: Run, tasks: Sequence[_Task]) -> None:
        rows = sum(task.rows for task in tasks)
        size = self._parameters.padded(rows) if rows else 0
        feeds = tasks[0].feeds
        if len(tasks) > 1 or size > rows:
            feeds = {name: _merged([task.feeds[name] for task in tasks], size - rows) for name in feeds}
        outputs = run(feeds)
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != size:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Batched output tensor {name} of shape {list(array.shape)} does not have a row for each of the "
                    f"{size} rows of the input; a signature like this cannot be served with --enable_batching",
                )
        start = 0
        for task in tasks:
            task.answer = {name: array[start : start + task.rows] for name, array in outputs.items()}
            start += task.rows


def _rows(feeds: Feeds) -> int:
    sizes = {len(array) if array.ndim else None for array in feeds.values()}
    if None in sizes or not sizes:
        raise invalid("Batching session Run() input tensors must have at least one dimension.")
    if len(sizes) > 1:
        raise invalid("Batching session Run() input tensors must have equal 0th-dimension size.")
    return next(size for size in sizes if size is not None)


def _merged(arrays: Sequence[Array], more_rows: int) -> Array:
    """The rows of all requests, brought to one length, with the first row repeated to make up the batch."""
    if len({array.shape[1:] for array in arrays}) > 1:
        lengths = np.max([array.shape[1:] for array in arrays], axis=0)
        arrays = [_lengthened(array, lengths) for array in arrays]
    spare = next((array for array in arrays if len(array)), None)
    if more_rows and spare is not None:
        arrays = [*arrays, np.repeat(spare[:1], more_rows, axis=0)]
    return np.concatenate(arrays)


def _lengthened(array: Array, lengths: Sequence[int]) -> Array:
    """The array with rows of these lengths, filled up with its first element as TensorFlow Serving does."""
    full = np.full((len(array), *lengths), array.flat[0], dtype=array.dtype)
    full[tuple(slice(size) for size in array.shape)] = array
    return full
