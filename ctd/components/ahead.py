"""Making the next item in a thread while this one is used: libraries in C leave Python's lock to others meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from ctd.components.phases import phase

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made while the one before is used."""
    coming = iter(items)

    def one() -> tuple[T, ...]:
        for item in coming:
            return (item,)
        return ()

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(one)
        while found := _awaited(future):
            future = thread.submit(one)
            yield found[0]


@phase("read")
def _awaited(future: Future[tuple[T, ...]]) -> tuple[T, ...]:
    return future.result()


class TwoPasses(Generic[T]):
    """Items to be gone through twice: kept where they are small, made again where they are not."""

    def __init__(self, make: Callable[[], Iterable[T]], size: Callable[[T], int], most: int) -> None:
        self._make, self._size, self._most = make, size, most
        self._kept: list[T] | None = []

    def first(self) -> Iterator[T]:
        left = self._most
        for item in self._make():
            left -= self._size(item)
            if left < 0:
                self._kept = None
            if self._kept is not None:
                self._kept.append(item)
            yield item

    def second(self) -> Iterable[T]:
        """All of them again, after the first pass."""
        return self._make() if self._kept is None else self._kept
