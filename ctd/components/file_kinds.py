"""What a file is by its first bytes, so that a wrong `format` can be told from a damaged file."""

from __future__ import annotations

from ctd.components.compression import READ_COMPRESSED
from ctd.components.tfrecords import GZIP_MAGIC, begins_record
from ctd.core.errors import BadInput

_NAMES = {
    "parquet": "Parquet",
    "avro": "Avro",
    "tfrecord": "TFRecord",
    "csv": "text, such as CSV",
    "gzip": "gzip",
    "zip": "a zip archive, such as a workbook of Excel",
    "ole": "a document of old Microsoft Office, such as a workbook of Excel",
    "orc": "ORC",
    "arrow": "Arrow or Feather",
    "lz4": "LZ4",
    "7z": "a 7z archive",
    "xz": "xz",
}
_BEGINNINGS = {
    b"PAR1": "parquet",
    b"Obj\x01": "avro",
    b"PK\x03\x04": "zip",
    b"\xd0\xcf\x11\xe0": "ole",
    b"ORC": "orc",
    b"ARROW1\0\0": "arrow",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf": "7z",
    b"\xfd7zXZ\x00": "xz",
}
_FORMATS = ("parquet", "avro", "tfrecord", "csv")
_SELF_DESCRIBING = (*_BEGINNINGS.values(),)


def check_kind(data: bytes, path: str, wanted: str) -> None:
    """Raise BadInput for a file that is plainly of another format than the spec says."""
    found = _kind(data)
    if found == wanted or (wanted not in _SELF_DESCRIBING and found not in _SELF_DESCRIBING):
        return
    if not data:
        hint = "Write the file again, and its marker last, when it is whole."
        raise BadInput(f"{path}: the file is empty", hint=hint)
    said = f"this is {_NAMES[found]}" if found else "this is something else"
    way_out = f"Write `format: {found}` in the example_gen, or put" if found in _FORMATS else "Put"
    besides = f"; they may be compressed with {READ_COMPRESSED}" if wanted == "csv" and found not in _FORMATS else ""
    hint = f"{way_out} {wanted} files there{besides}."
    raise BadInput(f"{path}: {said}, but the spec says `format: {wanted}`", hint=hint)


def _kind(data: bytes) -> str:
    head = data[:1000]
    if head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "csv"  # a column may be called PAR1; what is no text has control characters soon
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning):
            return kind
    if begins_record(data, 0):
        return "tfrecord"
    return "gzip" if data.startswith(GZIP_MAGIC) else ""
