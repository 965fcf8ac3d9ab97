"""Compressed text files, read as what they hold: gzip, bzip2 and Zstandard, told by their first bytes.

Arrow decompresses: it goes on with the next stream where one ends, says so if the file is damaged or ends too early,
and holds no more at once than some buffers, whatever a file grows to.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from ctd.core.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 18
_KINDS: Mapping[bytes, tuple[str, str]] = {  # as people call them, and as Arrow does
    b"\x1f\x8b": ("gzip", "gzip"),
    b"BZh": ("bzip2", "bz2"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd"),
}
READ_COMPRESSED = "gzip, bzip2 or Zstandard"


class _Decompressed(io.RawIOBase):
    """What a compressed file holds."""

    def __init__(self, raw: IO[bytes], kind: str, codec: str) -> None:
        self._raw, self._kind = raw, kind
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return int(self._stream.readinto(buffer))
        except OSError as error:
            if error.errno:  # of the disk
                raise
            raise self._damaged(error) from error

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _damaged(self, error: OSError) -> BadInput:
        if "too much memory" in str(error):
            hint = "Compress it without a long window, as `zstd` does without --long and --ultra."
            return BadInput(f"{self._raw.name}: {self._kind} with too long a window: {error}", hint=hint)
        hint = "Write the file again, and its marker last, when it is whole."
        return BadInput(f"{self._raw.name}: damaged {self._kind}: {error}", hint=hint)


def open_plain(path: str) -> io.BufferedReader:
    """What a file holds, decompressed if it is compressed. Raises OSError, and BadInput for damage, also while read."""
    raw = Path(path).open("rb")  # noqa: SIM115  closed with what is returned
    head = raw.peek(max(map(len, _KINDS)))
    for magic, (kind, codec) in _KINDS.items():
        if head.startswith(magic):
            return io.BufferedReader(_Decompressed(raw, kind, codec), _BUFFER)
    return raw
