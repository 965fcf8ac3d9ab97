"""Writes the files of this folder, with writers newer than the Arrow that ctd has: pyarrow 26, DuckDB 2.0, polars 2.1.

They are kept, since the environment of the tests cannot write them. Run it in an environment of its own.
"""

import base64
import uuid
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

HERE = Path(__file__).parent
HALVES = [np.float16(1.5), None, np.float16(-0.1)]
IDS = [uuid.UUID(int=5).bytes, None, uuid.UUID(int=2**127).bytes]


class Keys(pe.KmsClient):
    """Keys that protect nothing."""

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


def write(name: str, values: pa.Array, **options: object) -> None:
    pq.write_table(pa.table({"a": values}), HERE / f"{name}.parquet", **options)


def encode(name: str, values: pa.Array, encoding: str) -> None:
    write(name, values, use_dictionary=False, column_encoding={"a": encoding})


write("fixed_size_list", pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)))
write("string_view", pa.array(["x", None, "yy"], pa.string_view()))
write("binary_view", pa.array([b"x", None, b"yy"], pa.binary_view()))
write("list_view", pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())))
write("list_of_string_views", pa.array([["x"], None, ["yy", "z"]], pa.list_(pa.string_view())))
write("half_floats", pa.array(HALVES, pa.float16()))
write("lists_of_half_floats", pa.array([HALVES[:1], None, HALVES[::2]], pa.list_(pa.float16())))
write("pairs_of_half_floats", pa.array([HALVES[::2], None], pa.list_(pa.float16(), 2)))
write("uuid", pa.ExtensionArray.from_storage(pa.uuid(), pa.array(IDS, pa.binary(16))))
write("decimal32", pa.array([Decimal("1.25"), None], pa.decimal32(9, 2)))
write("decimal64", pa.array([Decimal("1.25"), None], pa.decimal64(18, 2)))
write("struct_of_string_views", pa.array([{"x": "y"}], pa.struct([("x", pa.string_view())])))
encode("byte_stream_split", pa.array([1, 2] * 9), "BYTE_STREAM_SPLIT")
encode("delta_length", pa.array(["x", "yy"] * 9), "DELTA_LENGTH_BYTE_ARRAY")
encode("delta_of_fixed", pa.array([b"ab", b"cd"] * 9, pa.binary(2)), "DELTA_BYTE_ARRAY")

views_and_duration = {"a": pa.array(["x"], pa.string_view()), "d": pa.array([1], pa.duration("s"))}
pq.write_table(pa.table(views_and_duration), HERE / "duration_beside_string_view.parquet")

crypto = pe.CryptoFactory(lambda _: Keys())
encryption = pe.EncryptionConfiguration(footer_key="k", column_keys={"c": ["a"]}, plaintext_footer=True)
properties = crypto.file_encryption_properties(pe.KmsConnectionConfig(), encryption)
table = pa.table({"a": [1, 2], "b": [3, 4]})
with pq.ParquetWriter(HERE / "encrypted.parquet", table.schema, encryption_properties=properties) as writer:
    writer.write_table(table)

for name, values in {
    "duckdb_uuid": "'00000000-0000-0000-0000-000000000005'::uuid",
    "duckdb_interval": "interval 5 day",
    "duckdb_time": "time '12:00'",
    "duckdb_variant": "5::variant",
}.items():
    duckdb.sql(f"copy (select {values} a) to '{HERE / name}.parquet' (format parquet)")
strings = "select range::varchar a from range(100)"
duckdb.sql(f"copy ({strings}) to '{HERE}/duckdb_v2.parquet' (format parquet, parquet_version v2)")

for name, series in {
    "polars_text": pl.Series(["x", None, "yy"]),
    "polars_category": pl.Series(["x", None, "yy"], dtype=pl.Categorical),
    "polars_array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    "polars_half_floats": pl.Series([1.5, None, -0.1], dtype=pl.Float16),
    "polars_int128": pl.Series([1, None, 2], dtype=pl.Int128),
}.items():
    pl.DataFrame({"a": series}).write_parquet(HERE / f"{name}.parquet")
