"""Read in blocks, CSV files are the rows or the errors that they are when read cell by cell and whole."""

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctd.components.ahead import TwoPasses, ahead
from ctd.components.csv_blocks import read_blocks
from ctd.components.csv_columns import examples_of
from ctd.components.csv_examples import Dialect, kinds_of, parse_csv, to_examples
from ctd.components.example_bytes import Kind
from ctd.components.tfrecords import SPLIT_FILE, SplitWriter, read_batches
from ctd.core.errors import BadInput

pytestmark = pytest.mark.tf

DIALECTS = {
    "TFX": Dialect(),
    "single quotes": Dialect(quote="'", delimiter=";"),
    "no quotes": Dialect(quote=""),
    "escapes": Dialect(escape="\\"),
    "a quote beyond ASCII": Dialect(quote="é"),
    "no header": Dialect(columns=("a", "1")),
    "nulls": Dialect(nulls=frozenset({"a", " "})),
    "latin-1": Dialect(encoding="latin-1"),
    "utf-16": Dialect(encoding="utf-16"),
}
TOKENS = st.sampled_from(
    ["a", "1", "1.5", ",", ",", ",", "\n", "\n", "\r\n", "\r", '"', '""', '","', '"\n', ' "', " ", "é", "\\", "\0", "'"]
)
TEXT = st.lists(TOKENS, max_size=40).map("".join)
CELLS = st.sampled_from(["", "1", "x y", '"a"', '"a,b"', '"a\nb"', '""', '"a""b"', 'a"b', "é", "1.5"])
TABLE = st.lists(st.lists(CELLS, min_size=2, max_size=2).map(",".join), max_size=12).map("\n".join)


def whole(data: bytes, path: str, dialect: Dialect) -> object:
    try:
        file = parse_csv(data, path, dialect)
    except BadInput as error:
        return error.message
    return file.header, [list(row) for row in file.rows]


def in_blocks(path: str, dialect: Dialect, size: int) -> object:
    header: Sequence[str] = ()
    rows: list[list[str]] = []
    try:
        for block in read_blocks(path, dialect, size):
            header = tuple(block.columns)
            columns = [[cell.decode() for cell in column.to_pylist()] for column in block.columns.values()]
            found = list(map(list, zip(*columns, strict=True)))
            assert len(found) == block.rows
            rows += found
    except BadInput as error:
        return error.message
    return header, rows


@pytest.mark.parametrize("dialect", [pytest.param(dialect, id=name) for name, dialect in DIALECTS.items()])
@settings(max_examples=150, deadline=None)
@given(text=TEXT | TABLE.map("a,b\n".__add__), size=st.integers(3, 60))
@example(text='a,b\n1,"2\n3,4\n', size=3)
@example(text='a\n""\n\n"x"\n', size=3)
@example(text="a,b\r\n\r\n1,2\r\n", size=5)
def test_a_file_in_blocks_is_the_file_read_as_a_whole(tmp_path_factory, dialect, text, size) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.csv"
    data = text.encode("utf-8" if dialect.encoding == "latin-1" else dialect.encoding)
    path.write_bytes(data)
    assert in_blocks(str(path), dialect, size) == whole(data, str(path), dialect)


@given(st.binary(max_size=60), st.integers(3, 20))
def test_bytes_that_are_no_text_are_refused_in_the_same_words(tmp_path_factory, tail, size) -> None:
    path = tmp_path_factory.getbasetemp() / "binary.csv"
    data = b"a,b\n1,2\n" + tail
    path.write_bytes(data)
    assert in_blocks(str(path), Dialect(), size) == whole(data, str(path), Dialect())


def test_a_cell_may_be_longer_than_a_block_and_than_python_reads_by_itself(tmp_path: Path) -> None:
    for length in (5_000, 131_072, 131_073):
        path = tmp_path / "long.csv"
        path.write_text(f"a,b\n1,{'x' * length}\n2,y\n" * 1)
        assert in_blocks(str(path), Dialect(), 1000) == whole(path.read_bytes(), str(path), Dialect())


@pytest.mark.realdata
def test_the_real_data_in_blocks_gives_the_examples_that_it_gives_as_a_whole(real_data: Path) -> None:
    path = real_data / "data.csv"
    blocks = list(read_blocks(str(path), size=100_000))
    assert len(blocks) > 10
    kinds = kinds_of([(str(path), block) for block in blocks], {})
    made = [record for block in blocks for record in examples_of(block, kinds)]
    assert made == to_examples([parse_csv(path.read_bytes(), str(path))])


def test_four_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    def most(times: int) -> int:
        path = tmp_path / f"{times}.csv"
        path.write_text("a,b,c\n" + "".join(f"{i},{i / 7},{'text' * 30} {i}\n" for i in range(30_000 * times)))
        kinds = {"a": Kind.INT, "b": Kind.FLOAT, "c": Kind.STRING}
        (tmp_path / str(times)).mkdir()
        in_arrow, before = 0, pa.total_allocated_bytes()
        tracemalloc.start()
        with SplitWriter(tmp_path / str(times), "all") as writer:
            for block in read_blocks(str(path), size=200_000):
                writer.add(examples_of(block, kinds))
                in_arrow = max(in_arrow, pa.total_allocated_bytes() - before)
        _, in_python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert writer.count == 30_000 * times
        assert sum(map(len, read_batches(str(tmp_path / str(times) / "Split-all" / SPLIT_FILE)))) == writer.count
        return in_arrow + in_python

    assert most(4) < 2 * most(1)


def test_items_are_made_ahead_in_their_order_and_errors_come_when_it_is_their_turn() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise BadInput("no more")

    made = ahead(items())
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(BadInput, match="no more"):
        next(made)
    assert list(ahead([])) == []


@pytest.mark.parametrize(("most", "times"), [(10, 1), (9, 2)])
def test_what_is_small_is_kept_between_two_passes_and_what_is_not_is_made_again(most, times) -> None:
    made = []

    def make() -> Iterator[str]:
        made.append("once")
        yield from ("12345", "67890")

    passes = TwoPasses(make, len, most)
    assert list(passes.first()) == list(passes.second()) == ["12345", "67890"]
    assert len(made) == times
