"""CSV to tf.Examples, to the byte as TFX's CsvExampleGen: types from all rows of a span, blank cells without value.

A column is of the greatest kind among its cells.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ctd.components.csv_columns import Block, block_of, examples_of, first_beyond, kind_of
from ctd.components.example_bytes import Kind
from ctd.core.errors import BadInput

_SEPARATORS = (",", ";", "\t", "|")
# A mark at the beginning of a file says its encoding, whatever the spec says: in none is it text that anybody means.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Excel's first line, as it is, quoted by a program that read it as a cell, or filled up to the width of the table.
_SAYS_DELIMITER = re.compile(r'"?sep=([^\w"\r\n])\1*"?\1* *', re.IGNORECASE)
csv.field_size_limit(2**31 - 1)  # the module's own is 131,072; features hold more, as does memory


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written, and which cells have no value. The default is what TFX reads."""

    delimiter: str = ","
    quote: str = '"'  # empty: nothing is quoted
    escape: str = ""
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()  # the header, of files that have none
    nulls: frozenset[str] = frozenset()

    def reader(self, records: Iterable[str]) -> Any:
        """A csv.reader: the cells of each record."""
        return csv.reader(
            records,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            escapechar=self.escape or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
        )


TFX = Dialect()


def as_the_file_says(first_line: bytes, dialect: Dialect) -> tuple[Dialect, int]:
    """How a file is written that begins with this line, and how many lines there are before its header.

    The file may say its encoding by a byte order mark, and its delimiter by `sep=;` as Excel does.
    """
    marked = next((encoding for mark, encoding in MARKS.items() if first_line.startswith(mark)), dialect.encoding)
    line = first_line.decode(marked, "ignore").removeprefix("\ufeff").rstrip("\r\n")
    found = _SAYS_DELIMITER.fullmatch(line)
    if found is None or found[1] in (dialect.quote, dialect.escape):
        return replace(dialect, encoding=marked), 0
    return replace(dialect, encoding=marked, delimiter=found[1]), 1


@dataclass(frozen=True)
class CsvFile:
    """One file's header and rows; rows that are blank lines are left out."""

    path: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def parse_csv(data: bytes, path: str, dialect: Dialect = TFX) -> CsvFile:
    """Split a file into cells as TFX does: comma, double quotes, records over several lines while quotes are open.

    A byte order mark is left out; TFX would make it part of the first column's name. So is Excel's `sep=;`.
    Raises BadInput with path and line.
    """
    dialect, before = as_the_file_says(data[: data.find(b"\n") + 1] or data, dialect)
    # Only \n ends a line, for TFX; the csv module takes care of a \r before it.
    text = io.StringIO(_text(data, path, dialect), newline="\n")
    for _ in range(before):
        text.readline()
    numbered = list(records_of(text, path, dialect, 1 + before))
    records, lines = [record for record, _ in numbered], [line for _, line in numbered]
    rows = parse_rows(records, lines, path, dialect)
    header = dialect.columns or header_of(rows, path, dialect, 1 + before)
    first = 0 if dialect.columns else 1
    wrong = next((i for i, row in enumerate(rows) if row and len(row) != len(header)), None)
    if wrong is not None:
        said = f"{path}:{lines[wrong]}: {len(rows[wrong])} cells in {len(header)} columns"
        raise BadInput(said, hint=_about_cells(rows[wrong], header, dialect))
    if dialect.columns and rows and tuple(rows[0]) == header:
        raise BadInput(
            f"{path}:{lines[0]}: the file has a header, and `columns` names its columns again",
            hint="Take `columns` out of the example_gen.",
        )
    return CsvFile(path, header, [_without(dialect.nulls, row) for row in rows[first:] if row])


def to_examples(files: Sequence[CsvFile], types: Mapping[str, Kind] | None = None) -> list[bytes]:
    """One canonically serialized tf.Example per row, files in the given order.

    Types that are not given are inferred over all files. Raises BadInput where headers differ, or a cell is not of
    its column's type.
    """
    blocks = [(file.path, block_of(file.header, file.rows)) for file in files]
    kinds = kinds_of(blocks, types or {})
    return [record for _, block in blocks for record in examples_of(block, kinds)]


@dataclass
class FileKinds:
    """What the columns of one file hold, as far as it was read. Plain values, so that it can be sent as JSON."""

    path: str
    header: Sequence[str]
    kinds: dict[str, int] = field(default_factory=dict)  # Kinds of columns whose type is not given
    wrong: dict[str, str] = field(default_factory=dict)  # the first cell beyond its column's given type
    rows: int = 0

    def count(self, block: Block, types: Mapping[str, Kind]) -> None:
        """Look at some more rows."""
        self.rows += block.rows
        for name, column in block.columns.items():
            if name not in types:
                known = self.kinds.get(name, Kind.BLANK)
                self.kinds[name] = known if known == Kind.STRING else max(known, kind_of(column.dictionary))
            elif name not in self.wrong and (cell := first_beyond(column.dictionary, types[name])) is not None:
                self.wrong[name] = cell.decode()[:40]


def kinds_of(blocks: Iterable[tuple[str, Block]], types: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """What each column of a span holds, given the blocks of all files with their paths; nothing if there are no rows.

    Raises BadInput where headers differ, or a cell is not of the type that is given for its column.
    """
    files: dict[str, FileKinds] = {}
    for path, block in blocks:
        files.setdefault(path, FileKinds(path, tuple(block.columns))).count(block, types)
    return kinds_together(list(files.values()), types)


def kinds_together(files: Sequence[FileKinds], types: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """The same, given what each file by itself has; those without header were blank."""
    files = [file for file in files if file.header]
    if not any(file.rows for file in files):
        return {}
    _check_types(files, types)
    _check_headers(files)
    return {name: Kind(max(file.kinds[name] for file in files)) for name in files[0].kinds} | dict(types)


def header_of(rows: Sequence[Sequence[str]], path: str, dialect: Dialect, line: int = 1) -> tuple[str, ...]:
    """The first row as names of columns. Raises BadInput if it cannot be that."""
    if not rows or not rows[0]:
        raise BadInput(
            f"{path}:{line}: no header",
            hint="The first line must name the columns, or `columns` of the example_gen, if no file does.",
        )
    header = tuple(rows[0])
    other = next((mark for mark in _SEPARATORS if mark in header[0] and mark != dialect.delimiter), "")
    if other and len(header) == 1:
        raise BadInput(
            f"{path}:{line}: one column, called {header[0]!r}",
            hint=f"Columns are told apart by {dialect.delimiter!r} here: write `delimiter: {_in_yaml(other)}` in the "
            "example_gen, if that is what the files have.",
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        said = f"{path}:{line}: column {twice[0]!r} is there twice"
        raise BadInput(said, hint="Give every column a name of its own.")
    return header


def _about_cells(row: Sequence[str], header: Sequence[str], dialect: Dialect) -> str:
    mark = repr(dialect.delimiter)
    if len(row) == len(header) + 1 and not row[-1]:
        return f"The row ends with a {mark}, the header does not: write the file without it, or with it in the header."
    if len(row) == len(header) - 1 and not header[-1]:
        return f"The header ends with a {mark}, the row does not: write the file without it, or with it in every row."
    return f"Is a {mark} not quoted, or the line cut off? Every row needs as many cells as there are columns."


def _in_yaml(mark: str) -> str:
    return '"\\t"' if mark == "\t" else f'"{mark}"'


def _without(nulls: frozenset[str], row: list[str]) -> list[str]:
    return ["" if cell in nulls else cell for cell in row] if nulls else row


def _text(data: bytes, path: str, dialect: Dialect) -> str:
    if not data:
        raise BadInput(f"{path}: the file is empty", hint="A CSV file needs rows.")
    binary = f"This is no CSV file in {dialect.encoding}. Say `encoding` in the example_gen, or write the file as text."
    try:
        text = data.decode("utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}:{line}: not {dialect.encoding.upper()} text: {error.reason}", hint=binary) from error
    if "\0" in text:
        raise BadInput(f"{path}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: a zero byte", hint=binary)
    return text


def records_of(lines: Iterable[str], path: str, dialect: Dialect, first: int = 1) -> Iterator[tuple[str, int]]:
    """The records, each with the line on which it begins. Raises BadInput for quotes that never close."""
    quote, escape = dialect.quote, dialect.escape
    escaped = re.compile(re.escape(escape) + ".", re.DOTALL) if escape else None
    begin, quotes = 0, 0
    open_lines: list[str] = []
    for number, line in enumerate(lines, first):
        if not open_lines:
            begin = number
        open_lines.append(line)
        plain = escaped.sub("", line) if escaped else line
        quotes += plain.count(quote) if quote else 0
        goes_on = line.endswith("\n") and not plain.endswith("\n")  # its end is escaped
        if quotes % 2 == 0 and not goes_on:
            yield "".join(open_lines), begin
            open_lines = []
    if open_lines:
        raise _unbalanced(path, begin)


def parse_rows(records: Sequence[str], lines: Sequence[int], path: str, dialect: Dialect) -> list[list[str]]:
    """The cells of each record. Raises BadInput with the line."""
    reader = dialect.reader(records)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise BadInput(
            f"{path}:{lines[reader.line_num - 1]}: {error}",
            hint="Lines end with a line feed, and a cell with line breaks or delimiters stands in quotes.",
        ) from error
    if len(rows) != len(records):
        # A quote that opens late in a record takes the next one in, although their number was even.
        again = dialect.reader(records)
        late = next(number for number, _ in enumerate(again, 1) if again.line_num != number)
        raise _unbalanced(path, lines[late - 1])
    return rows


def _unbalanced(path: str, line: int) -> BadInput:
    return BadInput(
        f"{path}:{line}: unbalanced quotes in the record that begins here",
        hint='A cell with a quote in it stands in quotes, and the one inside is doubled: "a ""b"" c". If quotes mean '
        "nothing in the files, write `quote: ''` in the example_gen.",
    )


def _difference(header: Sequence[str], first: Sequence[str]) -> str:
    missing = [name for name in first if name not in header]
    new = [name for name in header if name not in first]
    if not missing and not new:
        return "columns in another order than in the first file"
    said = [f"no column {', '.join(missing)}"] if missing else []
    said += [f"a new column {', '.join(new)}"] if new else []
    return " and ".join(said) + ", unlike the first file"


def _check_headers(files: Sequence[FileKinds]) -> None:
    first = files[0]
    for file in files[1:]:
        if tuple(file.header) != tuple(first.header):
            raise BadInput(
                f"{file.path}:1: {_difference(file.header, first.header)} ({first.path})",
                hint="All files of a span must have the same columns in the same order.",
            )


def _check_types(files: Sequence[FileKinds], types: Mapping[str, Kind]) -> None:
    for file in files:
        for name, kind in types.items():
            if name not in file.header:
                raise BadInput(
                    f"{file.path}:1: no column {name}, of which `types` gives the type",
                    hint=f"The columns are {', '.join(file.header)}: mend `types:` of the example_gen, or the file.",
                )
            if name in file.wrong:
                raise BadInput(
                    f"{file.path}: column {name} is to be {kind.name.lower()}, which {file.wrong[name]!r} is not",
                    hint="Correct the cell, or mend `types:` of the example_gen.",
                )
