"""CSV files of any size as blocks of columns: read by Arrow where it reads as TFX does, cell by cell elsewhere."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from ctd.components.compression import open_plain
from ctd.components.csv_columns import Block, block_of
from ctd.components.csv_examples import (
    TFX,
    Dialect,
    as_the_file_says,
    header_of,
    parse_csv,
    parse_rows,
    records_of,
)
from ctd.core.errors import BadInput

_READ = 2 << 20  # bytes of a block: enough for Arrow to be quick, and the examples take several times as much
_MOST, _ROWS = 32 << 20, 1000  # of tables with thousands of columns
_LONGEST = 256 << 20  # bytes of a record, and of a file that is read as a whole
_BLANK = 4096  # bytes of which a file has fewer if nothing is in it
_ORDER = {"little": "le", "big": "be"}[sys.byteorder]
_RECORD = 200  # bytes that a record may have
_UTF8 = "utf-8-sig"
_CELLS = pa.dictionary(pa.int32(), pa.binary())


class _Odd(Exception):
    """There is an error in the file."""


def read_blocks(path: str, dialect: Dialect = TFX, size: int | None = None, longest: int = _LONGEST) -> Iterator[Block]:
    """The rows of a file, compressed or not, in at least one block. Raises BadInput with path and line, OSError.

    `size` are the bytes of a block, `longest` those of a record, and of a file that is read as a whole.
    """
    done = 0  # lines
    try:
        for block, lines in _blocks(path, dialect, size, longest):
            yield block
            done = lines
    except (BadInput, UnicodeDecodeError, pa.ArrowInvalid, _Odd) as error:
        # On which line, and all that can be said of it, comes of reading the file as a whole.
        with open_plain(path) as content:
            whole = content.read(longest + 1)
        if len(whole) <= longest:
            parse_csv(whole, path, dialect)
        elif isinstance(error, BadInput):
            raise
        else:
            hint = "Every row needs as many cells as there are columns, in the encoding that the example_gen says."
            raise BadInput(f"{path}, after line {done}: {error}", hint=hint) from error
        raise BadInput(f"{path}: {error}", hint="Was the file changed while it was read?") from error


def is_blank(path: str, dialect: Dialect = TFX) -> bool:
    """Whether a file has no text but what it says of itself, and line ends. Raises BadInput, OSError."""
    with open_plain(path) as content:
        begin = content.read(_BLANK)
    if len(begin) == _BLANK:
        return False
    said, before = as_the_file_says(begin.splitlines(keepends=True)[0] if begin else b"", dialect)
    lines = begin.decode(_codec(begin, said), "replace").removeprefix("\ufeff").splitlines()
    return not any(line.strip() for line in lines[before:])


@dataclass(frozen=True)
class _Source:
    """The text of a file behind what it says of itself."""

    codec: str
    before: int  # lines

    def text(self, path: str) -> IO[str]:
        text = io.TextIOWrapper(open_plain(path), self.codec, newline="\n")
        for _ in range(self.before):
            text.readline()
        return text

    def utf8(self, path: str, size: int) -> Iterator[bytes]:
        """The same in pieces of about that size."""
        if self.codec != _UTF8:
            with self.text(path) as text:
                while said := text.read(size):
                    yield said.encode()
            return
        with open_plain(path) as content:
            for _ in range(self.before):
                content.readline()
            begin = content.read(size)
            begin = begin if self.before else begin.removeprefix(codecs.BOM_UTF8)
            while begin:
                yield begin
                begin = content.read(size)


def _blocks(path: str, dialect: Dialect, size: int | None, longest: int) -> Iterator[tuple[Block, int]]:
    """Blocks, each with the number of lines up to its end."""
    with open_plain(path) as content:
        lines = [content.readline(_MOST) for _ in range(2)]  # the first may be about the others
    dialect, before = as_the_file_says(lines[0], dialect)
    source = _Source(_codec(lines[0], dialect), before)
    # Bytes to read at once: so many rows that what each column costs per block counts for little.
    enough = size or min(max(_READ, _ROWS * max(map(len, lines))), _MOST)
    header: Sequence[str] = ()
    done = before
    for piece in _pieces(source, path, dialect, (enough, longest)):
        if b"\0" in piece:
            raise _Odd("a zero byte")
        rows, line = piece, done + 1
        if not header:
            header, rows = _header(piece, path, dialect, line)
            line += piece.count(b"\n", 0, len(piece) - len(rows))
        done += piece.count(b"\n")
        yield _block(rows, header, path, dialect, line), done
    if not header:
        raise _Odd("the file is empty")


def _codec(first_line: bytes, dialect: Dialect) -> str:
    if dialect.encoding == "utf-16" and not first_line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"utf-16-{_ORDER}"  # as bytes.decode takes text without a mark; a reader of files refuses it
    return _UTF8 if dialect.encoding == "utf-8" else dialect.encoding


def _header(piece: bytes, path: str, dialect: Dialect, line: int) -> tuple[Sequence[str], bytes]:
    """The names of the columns, and what comes after them."""
    record, _ = next(records_of(io.StringIO(piece.decode(), newline="\n"), path, dialect, line))
    rows = parse_rows([record], [line], path, dialect)
    if not dialect.columns:
        return header_of(rows, path, dialect, line), piece[len(record.encode()) :]
    if tuple(rows[0]) == dialect.columns:
        raise _Odd("the file has a header")
    return dialect.columns, piece


def _block(piece: bytes, header: Sequence[str], path: str, dialect: Dialect, line: int) -> Block:
    text = piece.decode()
    if not piece.strip(b"\r\n"):
        block = block_of(header, [])
    elif _for_arrow(piece, dialect):
        block = _by_arrow(piece, header, dialect)
    else:
        records, lines = zip(*records_of(io.StringIO(text, newline="\n"), path, dialect, line), strict=True)
        rows = [row for row in parse_rows(records, lines, path, dialect) if row]
        if any(len(row) != len(header) for row in rows):
            raise _Odd("rows of different lengths")
        block = block_of(header, rows)
    return block.without(dialect.nulls)


def _by_arrow(piece: bytes, header: Sequence[str], dialect: Dialect) -> Block:
    names = [str(number) for number in range(len(header))]
    quoted = bool(dialect.quote) and dialect.quote.encode() in piece
    table = arrow_csv.read_csv(
        pa.BufferReader(piece),
        arrow_csv.ReadOptions(column_names=names, block_size=len(piece) + 1, use_threads=False),
        arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote if quoted else False,
            double_quote=False,
            newlines_in_values=quoted,
        ),
        arrow_csv.ConvertOptions(
            check_utf8=False, column_types=dict.fromkeys(names, _CELLS), null_values=[], strings_can_be_null=False
        ),
    )
    columns = [column.combine_chunks() for column in table.columns]
    return Block(dict(zip(header, columns, strict=True)), table.num_rows)


def _for_arrow(piece: bytes, dialect: Dialect) -> bool:
    """Whether Arrow reads these lines as the csv module does."""
    if not _plain(dialect) or piece.count(b"\r") != piece.count(b"\r\n"):
        return False
    content = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(content == ord(dialect.quote)) if dialect.quote else np.array([])
    if not len(quotes):
        return True
    # Each quote at the beginning or the end of a cell: none within it, or doubled, or after a blank.
    before = np.concatenate([[ord("\n")], content])[quotes[::2]]
    after = np.concatenate([content, [ord("\n")]])[quotes[1::2] + 1]
    return (
        len(quotes) % 2 == 0
        and bool(np.isin(before, [ord(dialect.delimiter), ord("\n")]).all())
        and bool(np.isin(after, [ord(dialect.delimiter), ord("\n"), ord("\r")]).all())
    )


def _plain(dialect: Dialect) -> bool:
    return not dialect.escape and dialect.delimiter.isascii() and dialect.quote.isascii()


def _pieces(source: _Source, path: str, dialect: Dialect, sizes: tuple[int, int]) -> Iterator[bytes]:
    """The text of a file in UTF-8, cut between records: about as many bytes as wanted, and the most of a record."""
    size, longest = sizes
    if not _plain(dialect):
        with source.text(path) as lines:
            records = (record for record, _ in records_of(lines, path, dialect))
            while piece := "".join(islice(records, size // _RECORD + 1)):
                yield piece.encode()
        return
    held, enough = [b""], 0
    for chunk in source.utf8(path, size):
        held.append(chunk)
        if sum(map(len, held)) < enough:
            continue
        rest = b"".join(held)
        end = _border(rest, dialect.quote.encode())
        if not end and len(rest) > longest:
            raise _Odd(f"a record of more than {longest >> 20} MB: is a line end missing, or a quote never closed?")
        if end:
            yield rest[:end]
        # Without an end: a record of many lines, or quotes that never close.
        held, enough = [rest[end:]], 0 if end else 2 * len(rest)
    if any(held):
        yield b"".join(held)


def _border(data: bytes, quote: bytes) -> int:
    """Where the last record in the data ends; 0 if none does."""
    end = data.rfind(b"\n") + 1
    if not end or not quote or data.count(quote, 0, end) % 2 == 0:
        return end
    content = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    closed = ends[np.searchsorted(np.flatnonzero(content == ord(quote)), ends) % 2 == 0]
    return int(closed[-1]) + 1 if len(closed) else 0
