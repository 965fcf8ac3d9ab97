"""CSV files as Excel, pandas and Spark leave them are the tables that pandas and Beam read in them."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from ctd.components.csv_blocks import read_blocks
from ctd.components.csv_examples import Dialect
from ctd.components.example_files import SpanFiles
from ctd.core.errors import BadInput
from ctd.core.work import SourceFile
from ctd.specs.nodes import ExampleGenSpec
from tests.components.test_example_formats import values

pytestmark = pytest.mark.tf

TABLE = 'name,amount\nGrüße,1.5\n"a, b",2.5\n"two\nlines",3.5\n'
ROWS = [["Grüße", "1.5"], ["a, b", "2.5"], ["two\nlines", "3.5"]]


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bz2": bz2.compress, "zstd": zstd}


def rows(path: Path, dialect: Dialect | None = None, size: int | None = None) -> list[list[str]]:
    found: list[list[str]] = []
    for block in read_blocks(str(path), dialect or Dialect(), size):
        columns = [[cell.decode() for cell in column.to_pylist()] for column in block.columns.values()]
        found += map(list, zip(*columns, strict=True))
    return found


def refused(path: Path, dialect: Dialect | None = None) -> str:
    with pytest.raises(BadInput) as error:
        rows(path, dialect)
    return f"{error.value.message} | {error.value.hint}".replace(f"{path.parent}/", "")


@pytest.fixture
def put(tmp_path):
    def put(data: bytes | str, name: str = "part-0.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


def examples(paths: Sequence[Path], **said: Any) -> list[Mapping[str, Any]]:
    """The features of a span of these files."""
    files = [SourceFile(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    spec = ExampleGenSpec(kind="example_gen", input="/data/{SPAN}", **said)
    return [values(record) for batch in SpanFiles(spec, files).batches() for record in batch.records]


@pytest.mark.parametrize("codec", list(COMPRESS))
def test_compressed_files_are_what_pandas_and_beam_read_in_them(put, codec: str) -> None:
    data = TABLE.encode() + b"".join(b"%d,%d.5\n" % (i, i) for i in range(2000))
    # In two streams, as `cat a.gz b.gz` and parallel compressors write them; with an ending or without.
    compressed = COMPRESS[codec](data[:5000]) + COMPRESS[codec](data[5000:])
    path = put(compressed, f"part-0.csv.{ {'gzip': 'gz', 'zstd': 'zst'}.get(codec, codec) }")
    found = rows(path, size=1000)
    assert found == rows(put(data, "plain.csv")) == rows(put(compressed, "no ending"))
    table = pd.read_csv(io.BytesIO(data), dtype=str)
    assert found == table.to_numpy().tolist()
    if codec != "zstd":  # Beam does not read it
        with beam.Pipeline() as pipeline:
            lines = pipeline | beam.io.ReadFromText(str(path))
            assert_that(lines, equal_to(data.decode().splitlines()))


@pytest.mark.parametrize("codec", list(COMPRESS))
@pytest.mark.parametrize("cut", [slice(-5), slice(30), slice(5)], ids=["its end", "its half", "all but its head"])
def test_a_compressed_file_that_ends_too_early_is_damaged_and_not_a_shorter_file(put, codec: str, cut: slice) -> None:
    whole = COMPRESS[codec](TABLE.encode())
    for data in (whole[cut], whole + whole[cut]):
        assert refused(put(data)).startswith(
            f"part-0.csv: damaged { {'bz2': 'bzip2', 'zstd': 'Zstandard'}.get(codec, codec) }"
        )


@pytest.mark.parametrize("codec", list(COMPRESS))
def test_what_follows_a_compressed_stream_and_is_none_is_damage(put, codec: str) -> None:
    assert "damaged" in refused(put(COMPRESS[codec](TABLE.encode()) + b"1,2\n"))


def test_a_compressed_file_says_of_itself_what_a_plain_one_may(put) -> None:
    said = "\ufeffsep=;\r\nname;amount\r\nGrüße;1,5\r\n"
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        assert rows(put(gzip.compress(said.encode(encoding)))) == [["Grüße", "1,5"]]


def test_other_compressions_and_workbooks_are_called_what_they_are(put) -> None:
    for data, said in (
        (lzma.compress(TABLE.encode()), "this is xz"),
        (b"PK\x03\x04" + bytes(30), "this is a zip archive, such as a workbook of Excel"),
        (b"\x04\x22\x4d\x18" + bytes(30), "this is LZ4"),
    ):
        with pytest.raises(BadInput) as error:
            examples([put(data)])
        assert said in error.value.message
        assert "compressed with gzip, bzip2 or Zstandard" in error.value.hint


def test_what_a_small_file_grows_to_is_not_held_in_memory(put) -> None:
    """A gigabyte of rows in a megabyte, and one of a record that never ends."""

    def grown(begin: bytes, piece: bytes, times: int) -> bytes:
        packer = zlib.compressobj(1, wbits=31)
        return packer.compress(begin) + b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()

    path = put(grown(b"a,b\n", b"1,x\n" * (1 << 18), 400))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    most = 0
    for block in read_blocks(str(path)):
        assert block.rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert most + tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    path = put(grown(b"a,b\n1,x\n", b"x" * (1 << 20), 600))
    assert "part-0.csv, after line 2: a record of more than 256 MB" in refused(path)


def test_an_error_in_a_file_too_large_to_be_read_as_a_whole_has_its_line(put) -> None:
    text = "a,b\n" + '"x ""y""",1\n' * 50
    path = put(text + '"1" 2"3"",1\n')
    with pytest.raises(BadInput) as error:
        list(read_blocks(str(path), size=40, longest=100))
    assert f"{path}:52: unbalanced quotes" in error.value.message
    path = put(text + "1,2,3\n")
    with pytest.raises(BadInput) as error:
        list(read_blocks(str(path), size=40, longest=100))
    assert f"{path}, after line 50: rows of different lengths" in error.value.message


@pytest.mark.parametrize(
    ("first_line", "delimiter"),
    [
        ("sep=;", ";"),
        ("SEP=;\r", ";"),
        ("sep=\t", "\t"),
        ('"sep=;"', ";"),
        ("sep=,", ","),
        ("sep=|", "|"),
        ("sep=;;", ";"),
        ("sep=; ", ";"),
    ],
)
def test_the_first_line_of_excel_says_the_delimiter(put, first_line: str, delimiter: str) -> None:
    text = "name;amount\na;1.5\n".replace(";", delimiter)
    assert (
        rows(put(f"{first_line}\n{text}"))
        == pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str).to_numpy().tolist()
    )
    assert examples([put(f"{first_line}\n{text}")], delimiter="|") == [{"name": [b"a"], "amount": [1.5]}]


def test_a_column_may_be_called_sep(put) -> None:
    assert examples([put("sep=a,b\n1,2\n")]) == [{"sep=a": [1], "b": [2]}]
    assert examples([put("sep,b\n1,2\n")]) == [{"sep": [1], "b": [2]}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("said", ["utf-8", "latin-1", "cp1252", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(put, encoding: str, said: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    path = put((mark + TABLE).encode(encoding))
    assert (
        rows(path, Dialect(encoding=said), 20) == ROWS == pd.read_csv(io.StringIO(TABLE), dtype=str).to_numpy().tolist()
    )


def test_a_unicode_text_of_excel_is_read(put) -> None:
    """Its "Unicode Text": UTF-16 with a mark, tabs, quotes only where they must be."""
    text = 'name\tamount\r\nGrüße\t1.5\r\n"a ""b"""\t2.5\r\n'
    path = put(text.encode("utf-16"))
    assert rows(path, Dialect(delimiter="\t")) == [["Grüße", "1.5"], ['a "b"', "2.5"]]
    assert (
        rows(path, Dialect(delimiter="\t"))
        == pd.read_csv(path, sep="\t", encoding="utf-16", dtype=str).to_numpy().tolist()
    )


@pytest.mark.parametrize("length", [131_073, 3 << 20])
@pytest.mark.parametrize("quoted", [False, True])
def test_cells_are_of_any_length(put, length: int, quoted: bool) -> None:
    cell = "x" * length + ("\n,x" if quoted else "")
    text = "name,amount\nshort,1\n" + (f'"{cell}"' if quoted else cell) + ",2\nshort,3\n"
    table = pd.read_csv(io.StringIO(text), dtype=str).to_numpy().tolist()
    for size in (None, 1000):
        for dialect in (Dialect(), Dialect(escape="\\")):
            assert rows(put(text), dialect, size) == table
    assert examples([put(text)])[1] == {"name": [cell.encode()], "amount": [2]}


@pytest.mark.parametrize(
    "blank",
    [
        b"",
        b"\n",
        b"\r\n\r\n",
        b"  \n",
        b"sep=;\n",
        "sep=;\n\n".encode("utf-16"),
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\n",
        "\n".encode("utf-16"),
        gzip.compress(b""),
    ],
)
def test_parts_without_anything_are_passed_over_beside_others(put, blank: bytes) -> None:
    parts = [put(blank, "0.csv"), put(TABLE, "1.csv"), put(blank, "2.csv")]
    assert examples(parts) == examples([parts[1]]) != []


def test_parts_with_nothing_but_a_header_are_passed_over_and_must_have_the_same_header(put) -> None:
    parts = [put("name,amount\n", "0.csv"), put(TABLE, "1.csv"), put("", "2.csv")]
    assert examples(parts) == examples([parts[1]])
    with pytest.raises(BadInput, match="a new column amount"):
        examples([put("name\n", "0.csv"), *parts[1:]])


def test_a_part_of_zero_bytes_is_damage_and_not_blank(put) -> None:
    with pytest.raises(BadInput, match="a zero byte"):
        examples([put(bytes(100), "0.csv"), put(TABLE, "1.csv")])


def test_blank_parts_alone_are_no_examples(put) -> None:
    assert examples([put("", "0.csv"), put("\n", "1.csv")]) == []


def test_line_ends_of_carriage_returns_alone_are_refused_with_a_way_out(put) -> None:
    said = refused(put("a,b\r1,2\r3,4\r"))
    assert "part-0.csv:1" in said
    assert "line feed" in said


@pytest.mark.parametrize(
    ("text", "hint"),
    [("a,b\n1,2,\n", "The row ends with a ',', the header does not"), ("a,b,\n1,2\n", "The header ends with a ','")],
)
def test_a_comma_at_the_end_of_all_rows_is_told(put, text: str, hint: str) -> None:
    assert hint in refused(put(text))
