"""What a file is by its first bytes, so that a wrong `format` can be told from a damaged file."""

from __future__ import annotations

from ctd.components.tfrecords import GZIP_MAGIC, begins_record
from ctd.core.errors import BadInput

_NAMES = {"parquet": "Parquet", "avro": "Avro", "tfrecord": "TFRecord", "csv": "text, such as CSV", "gzip": "gzip"}
_BEGINNINGS = {b"PAR1": "parquet", b"Obj\x01": "avro"}
_SELF_DESCRIBING = ("parquet", "avro")


def check_kind(data: bytes, path: str, wanted: str) -> None:
    """Raise BadInput for a file that is plainly of another format than the spec says."""
    found = _kind(data)
    if found == wanted or (wanted not in _SELF_DESCRIBING and found not in _SELF_DESCRIBING):
        return
    if not data:
        hint = "Write the file again, and its marker last, when it is whole."
        raise BadInput(f"{path}: the file is empty", hint=hint)
    said = f"this is {_NAMES[found]}" if found else "this is something else"
    way_out = "Put" if found in ("", "gzip") else f"Write `format: {found}` in the example_gen, or put"
    raise BadInput(f"{path}: {said}, but the spec says `format: {wanted}`", hint=f"{way_out} {wanted} files there.")


def _kind(data: bytes) -> str:
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning):
            return kind
    if begins_record(data, 0):
        return "tfrecord"
    if data.startswith(GZIP_MAGIC):
        return "gzip"
    head = data[:1000]
    return "csv" if head and all(byte >= 32 or byte in b"\t\r\n" for byte in head) else ""
