"""The serialized examples of an evaluation: in memory where they are few bytes, else in their files, read as needed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctd.components.phases import phase
from ctd.components.tfrecords import read_batches

_HELD = 96 << 20  # bytes of records that stay in memory: beyond, reading twice is cheaper than keeping


@dataclass(frozen=True)
class Records:
    """Serialized examples that can be gone through several times, and what identifies them."""

    files: Sequence[str]
    held: Sequence[bytes] | None
    count: int
    digest: str

    @classmethod
    @phase("read")
    def of_files(cls, files: Sequence[str], most: int | None = None, hold: int = _HELD) -> Records:
        """All records of these files, or the first `most`, which are held. BadInput names file and record."""
        found = itertools.islice(_records(files), most)
        return cls._of(files, found, None if most is not None else hold)

    @classmethod
    def of(cls, records: Sequence[bytes]) -> Records:
        """These records."""
        return cls._of((), records, None)

    @classmethod
    def _of(cls, files: Sequence[str], records: Iterable[bytes], most: int | None) -> Records:
        held: list[bytes] | None = []
        digest, count, size = hashlib.sha256(), 0, 0
        for record in records:
            digest.update(len(record).to_bytes(8, "big"))
            digest.update(record)
            count, size = count + 1, size + len(record)
            if most is not None and size > most:
                held = None
            if held is not None:
                held.append(record)
        return cls(files, held, count, digest.hexdigest())

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(_records(self.files) if self.held is None else self.held)

    def batches(self, most: int, room: int | None = None) -> Iterator[list[bytes]]:
        """The records in order, at most so many and so many bytes at once, but never less than one."""
        batch: list[bytes] = []
        size = 0
        for record in self:
            if batch and (len(batch) == most or (room is not None and size + len(record) > room)):
                yield batch
                batch, size = [], 0
            batch.append(record)
            size += len(record)
        if batch:
            yield batch

    def first(self, most: int) -> list[bytes]:
        """At most so many, the first."""
        return list(itertools.islice(self, most))


def _records(files: Iterable[str]) -> Iterator[bytes]:
    return (record for file in files for batch in read_batches(file) for record in batch)
