"""Compressed text files, read as what they hold: gzip, bzip2, xz and Zstandard, told by their first bytes.

A file that is damaged or ends too early is an error, never a shorter file: the readers of the standard library pass
over whatever follows the first stream of bzip2 or xz if it is no stream itself.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import zstandard

from ctd.core.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ = 1 << 18
_GZIP = 31  # zlib's way to say that a stream has gzip's header
_WIDEST = 1 << 31  # bytes that `zstd --ultra --long=31` looks back
_DAMAGE = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError)


class _Decompressor(Protocol):
    """One stream of a compressed file."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _zstd() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=_WIDEST).decompressobj()


_KINDS: Mapping[bytes, tuple[str, Callable[[], _Decompressor]]] = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(_GZIP)),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _zstd),
}
READ_COMPRESSED = "gzip, bzip2, xz or Zstandard"


class _Plain(io.RawIOBase):
    """What a compressed file holds, stream after stream."""

    def __init__(self, raw: IO[bytes], kind: str, begin: Callable[[], _Decompressor]) -> None:
        self._raw, self._kind, self._begin = raw, kind, begin
        self._stream = begin()
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._held and self._more():
            pass
        taken = self._held[: len(target)]
        target[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _more(self) -> bool:
        """Decompress some more; False at the end. Raises BadInput for damage."""
        data = (self._stream.unused_data if self._stream.eof else b"") or self._raw.read(_READ)
        if self._stream.eof:
            while data and not data.strip(b"\0"):  # tapes and xz pad with zeros
                data = self._raw.read(_READ)
            if data:
                self._stream, data = self._begin(), data.lstrip(b"\0")
        if not data:
            if not self._stream.eof:
                raise self._damaged("it ends too early")
            return False
        try:
            self._held = memoryview(self._stream.decompress(data))
        except _DAMAGE as error:
            raise self._damaged(str(error)) from error
        return True

    def _damaged(self, why: str) -> BadInput:
        return BadInput(
            f"{self._raw.name}: damaged {self._kind}: {why}",
            hint="Write the file again, and its marker last, when it is whole.",
        )


def open_plain(path: str) -> io.BufferedReader:
    """What a file holds, decompressed if it is compressed. Raises OSError, and BadInput for damage, also while read."""
    raw = Path(path).open("rb")  # noqa: SIM115  closed with what is returned
    try:
        head = raw.read(max(map(len, _KINDS)))
        raw.seek(0)
    except OSError:
        raw.close()
        raise
    for magic, (kind, begin) in _KINDS.items():
        if head.startswith(magic):
            return io.BufferedReader(_Plain(raw, kind, begin), _READ)
    return raw


def read_plain(path: str) -> bytes:
    """All that a file holds, decompressed. Raises as `open_plain` does."""
    with open_plain(path) as content:
        return content.read()
