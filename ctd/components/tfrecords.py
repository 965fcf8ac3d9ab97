"""TFRecord files, gzip or not, written and read piece by piece: what is in memory does not grow with the file."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import google_crc32c

from ctd.components.phases import phase
from ctd.core.errors import BadInput, StorageUnavailable


def shard_name(number: int, of: int) -> str:
    """TFX's name of a file of a split."""
    return f"data_tfrecord-{number:05}-of-{of:05}.gz"


SPLIT_FILE = shard_name(0, 1)
GZIP_MAGIC = b"\x1f\x8b"

# A TFRecord is the length, its checksum, the data, their checksum.
_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_READ = 1 << 20
_AT_ONCE = 4 << 20  # of records given to the compressor: enough to be worth a thread's while
_LENGTHS_HELD = 4 << 20
# Examples repeat their feature names in every record: of taxi trips level 1 takes 0.15 s and 6.9 MB where level 6,
# zlib's and TFX's, takes 0.39 s and 5.8 MB.
_LEVEL = 1
_GZIP = 31  # zlib's way to say that a stream has gzip's header


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class SplitDigest:
    """What a split's part in the digest of Examples needs of its records."""

    def __init__(self, split: str) -> None:
        self.split = split
        self._content = hashlib.sha256()
        # Lengths count: without them ["ab"] and ["a", "b"] would be one.
        self._lengths: IO[bytes] = tempfile.SpooledTemporaryFile(_LENGTHS_HELD)  # noqa: SIM115  closed when used

    def add(self, records: Sequence[bytes]) -> None:
        """Count records in after those before them."""
        lengths = ",".join([str(len(record)) for record in records])
        self._lengths.write((("," if self._lengths.tell() else "") + lengths).encode())
        self._content.update(b"".join(records))

    def enter_into(self, whole: hashlib._Hash) -> None:
        """Add name, lengths and content of the split to the digest of several."""
        whole.update(f"{self.split}:".encode())
        self._lengths.seek(0)
        while piece := self._lengths.read(_READ):
            whole.update(piece)
        whole.update(f":{self._content.hexdigest()}\n".encode())
        self._lengths.close()


class SplitWriter:
    """The one file of a split, and the digest of what is in it; equal records give equal bytes.

    Compresses and digests in a thread, so that the next records can be made meanwhile. Raises StorageUnavailable.
    """

    def __init__(self, directory: Path, split: str) -> None:
        folder = directory / f"Split-{split}"
        folder.mkdir()
        self.digest, self.count = SplitDigest(split), 0
        self._path = folder / SPLIT_FILE
        self._file = self._path.open("wb")
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._heads: dict[int, bytes] = {}
        self._waiting: list[bytes] = []
        self._size = 0
        self._thread = ThreadPoolExecutor(1)
        self._before: Future[None] | None = None

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end()
        finally:
            self._thread.shutdown()
            with self._storing():
                self._file.close()

    def add(self, records: Sequence[bytes]) -> None:
        """Write records after those before them."""
        self._waiting.extend(records)
        self.count += len(records)
        self._size += sum(map(len, records))
        if self._size >= _AT_ONCE:
            self._hand_over()

    @phase("write")
    def _end(self) -> None:
        self._hand_over()
        self._wait()
        with self._storing():
            self._file.write(self._stream.flush())

    @phase("write")
    def _hand_over(self) -> None:
        records, self._waiting, self._size = self._waiting, [], 0
        self._wait()
        if records:
            self._before = self._thread.submit(self._take, records)

    def _wait(self) -> None:
        if self._before is not None:
            self._before.result()

    def _take(self, records: Sequence[bytes]) -> None:
        with self._storing():
            self.digest.add(records)
            self._file.write(self._stream.compress(b"".join(self._framed(records))))

    def _framed(self, records: Sequence[bytes]) -> Iterator[bytes]:
        heads = self._heads
        for record in records:
            head = heads.get(len(record))
            if head is None:
                head = heads[len(record)] = _head(len(record))
            yield head
            yield record
            yield _CRC.pack(masked_crc(record))

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageUnavailable(
                f"cannot write {self._path}: {error.strerror}", hint="Is the disk of the state directory full?"
            ) from error


def digest_of(splits: Sequence[SplitDigest]) -> str:
    """The identity of Examples: which records are in which split, in their order, however compressed."""
    whole = hashlib.sha256()
    for split in sorted(splits, key=lambda one: one.split):
        split.enter_into(whole)
    return whole.hexdigest()


def read_batches(path: str) -> Iterator[list[bytes]]:
    """The records of one file, some at a time. Raises BadInput that names file and record, OSError."""
    with Path(path).open("rb") as raw:
        head = raw.read(_HEADER.size)
        raw.seek(0)
        if not head.startswith(GZIP_MAGIC) or begins_record(head, 0):
            yield from _batches(raw, path)
            return
        with gzip.GzipFile(fileobj=raw) as unzipped:
            yield from _batches(unzipped, path)


def begins_record(data: bytes, position: int) -> bool:
    """Whether a length with its checksum is there."""
    if position + _HEADER.size > len(data):
        return False
    return bool(_HEADER.unpack_from(data, position)[1] == masked_crc(data[position : position + 8]))


def masked_crc(data: bytes) -> int:
    """TFRecord rotates and shifts CRC32C, so that a checksum of data holding checksums stays good."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _head(length: int) -> bytes:
    packed = _LENGTH.pack(length)
    return packed + _CRC.pack(masked_crc(packed))


def _batches(file: _Readable, path: str) -> Iterator[list[bytes]]:
    known: dict[bytes, int] = {}  # lengths whose checksum was right
    data, done, wanted = b"", 0, 0
    while more := _more(file, max(_READ, wanted), path):
        data += more
        records, position, wanted = _whole_records(data, known, path, done)
        if records:
            yield records
        done += len(records)
        data = data[position:]
    if data:
        raise _corrupt(path, done + 1, "the file ends within it" if wanted else "no TFRecord begins here")


def _whole_records(data: bytes, known: dict[bytes, int], path: str, done: int) -> tuple[list[bytes], int, int]:
    """The records that are whole in the data, where they end, and how many bytes the next one lacks."""
    records: list[bytes] = []
    position, size, lacks = 0, len(data), 0
    while position + _HEADER.size <= size:
        head = data[position : position + _HEADER.size]
        length = known.get(head)
        if length is None:
            if not begins_record(head, 0):
                raise _corrupt(path, done + len(records) + 1, "no TFRecord begins here")
            length = known[head] = _LENGTH.unpack_from(head)[0]
        begin = position + _HEADER.size
        end = begin + length
        if end + _CRC.size > size:
            lacks = end + _CRC.size - size
            break
        record = data[begin:end]
        if _CRC.unpack_from(data, end)[0] != masked_crc(record):
            raise _corrupt(path, done + len(records) + 1, "its checksum does not match")
        records.append(record)
        position = end + _CRC.size
    return records, position, lacks


def _more(file: _Readable, size: int, path: str) -> bytes:
    try:
        return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(
            f"{path}: damaged gzip: {error}", hint="Write the file again, and its marker last, when it is whole."
        ) from error


def _corrupt(file: str, number: int, why: str) -> BadInput:
    return BadInput(
        f"{file}: record {number} is damaged: {why}",
        hint="Write the file again as TFRecord, and its marker last, when it is whole.",
    )
