"""The daemon's events for people: a stream with colours on a terminal, plain single lines anywhere else."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from ctd.cli.text import clean
from ctd.observability import Event, JsonLines, LostLines, fields_of

PROGRESS_EVERY = 15.0  # seconds between two lines on the progress of one execution, where lines stay

_SLOW = 1.0  # seconds that a reader may take before lines are lost
_NOBODY_LOOKS = (errno.EPIPE, errno.EIO)  # of a terminal that was closed
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}
_ENDS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "abandoned": "yellow"}
# Said in words of their own below; whatever else an event carries follows as name=value.
_WORDED = {
    "pipeline", "node", "piece", "key", "execution", "attempt", "because", "error", "why", "hint", "state", "took",
    "result", "progress", "action", "file", "verb", "who",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One event in words: whom it is about, what happened, why, and what to do."""

    subject: str
    what: str
    why: str = ""
    hint: str = ""
    style: str = ""


def line_of(record: logging.LogRecord) -> Line:
    """A log record of the daemon as a line; user text in it is made safe."""
    fields = {name: str(value) for name, value in fields_of(record).items() if value not in (None, "")}
    event = record.getMessage()
    why = fields.get("because") or fields.get("error") or fields.get("why") or fields.get("result", "")
    if record.exc_info and record.exc_info[1] is not None:
        why = f"{why} {type(record.exc_info[1]).__name__}: {record.exc_info[1]}".strip()
    rest = [f"{name}={value}" for name, value in fields.items() if name not in _WORDED]
    style = _ENDS.get(fields.get("state", ""), "") or _STYLES.get(record.levelno, "")
    return Line(
        clean(_subject(fields)),
        clean(" ".join([_what(event, fields), *rest])),
        clean(why),
        clean(fields.get("hint", "")),
        style,
    )


class PlainLines(logging.Formatter):
    """`2026-01-01T12:00:00Z taxi/trainer spans 1..3 (3): execution 7 succeeded in 8.4s`."""

    def format(self, record: logging.LogRecord) -> str:
        line = line_of(record)
        level = f"{record.levelname} " if record.levelno > logging.INFO else ""
        time = _when(record).strftime("%Y-%m-%dT%H:%M:%SZ")
        what = ": ".join(part for part in (line.subject, line.what, line.why) if part)
        return f"{time} {level}{what}" + (f" ({line.hint})" if line.hint else "")


class Sparse(logging.Filter):
    """Lets progress through only now and then; everything else always."""

    def __init__(self, every: float = PROGRESS_EVERY) -> None:
        super().__init__()
        self._every = every
        self._last: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        fields = fields_of(record)
        execution = fields.get("execution")
        if record.getMessage() == Event.EXECUTION_ENDED.value:
            self._last.pop(execution, None)
        if record.getMessage() != Event.EXECUTION_PROGRESS.value:
            return True
        if record.created - self._last.get(execution, 0.0) < self._every:
            return False
        self._last[execution] = record.created
        return True


class _Whole:
    """A stream that writes each text at once, past all buffers: what is in one comes later, and fails again at exit."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._torn = False  # whether the last line ends in the middle

    def write(self, text: str) -> None:
        try:
            target = self._stream.fileno()
        except OSError:  # no file: a test reads it
            self._stream.write(text)
            return
        rest = (("\n" if self._torn else "") + text).encode(errors="backslashreplace")
        while rest:
            try:
                written = os.write(target, rest)
            except BlockingIOError:  # somebody made the pipe so, and reads slowly
                _, ready, _ = select.select([], [target], [], _SLOW)
                if not ready:
                    raise
                continue
            self._torn = written < len(rest)
            rest = rest[written:]

    def flush(self) -> None:
        """Nothing is kept."""


class LineHandler(logging.StreamHandler[_Whole]):
    """Lines on standard output.

    One that cannot be written is lost and counted, and before the first that can be written again stands how many were.
    Only when nobody reads them any more (EPIPE), the daemon goes on in silence.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(_Whole(sys.stdout))
        self.setFormatter(formatter)
        self.addFilter(Sparse())
        self.lost: LostLines | None = None
        self._nobody_reads = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._nobody_reads:
            self.catch_up()
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._lose(record, error)
        else:
            super().handleError(record)

    def catch_up(self) -> LostLines | None:
        """Say what was lost, if that can be said now; what is still not said."""
        with contextlib.suppress(OSError):
            if self.lost is not None:
                self.stream.write(self.format(_note_of(self.lost)) + self.terminator)
                self.lost = None
        return self.lost

    def _lose(self, record: logging.LogRecord, error: OSError) -> None:
        self._nobody_reads = isinstance(error, BrokenPipeError)
        count, since = (self.lost.count, self.lost.since) if self.lost else (0, _when(record))
        self.lost = None if self._nobody_reads else LostLines(count + 1, since, error.strerror or str(error))


def _note_of(lost: LostLines) -> logging.LogRecord:
    note = logging.makeLogRecord({"name": "ctd.cli", "levelno": logging.WARNING, "levelname": "WARNING"})
    note.msg = Event.LINES_LOST.value
    fields = {"lost": lost.count, "since": lost.since.isoformat(timespec="seconds"), "because": lost.because}
    note.__dict__.update(fields)
    return note


def _when(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, timezone.utc)


class TerminalHandler(logging.Handler):
    """Events as they happen, and below them one line that says what is running now."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._running: dict[str, tuple[str, str]] = {}  # by execution: the work, and how far it is
        self._shown = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {name: str(value) for name, value in fields_of(record).items()}
            self._note(record.getMessage(), fields)
            self._erase()
            if record.getMessage() != Event.EXECUTION_PROGRESS.value:
                self._print(record)
            self._draw()
        except OSError as error:
            if error.errno in _NOBODY_LOOKS:  # the terminal went away; the work goes on
                self._console.quiet = True

    def close(self) -> None:
        self._erase()
        super().close()

    def _note(self, event: str, fields: Mapping[str, str]) -> None:
        execution = fields.get("execution", "")
        if event in (Event.EXECUTION_STARTED.value, Event.EXECUTION_PROGRESS.value):
            self._running[execution] = (clean(_subject(fields)), clean(fields.get("progress", "")))
        elif event in (Event.EXECUTION_ENDED.value, Event.RECOVERED.value):
            self._running.pop(execution, None)

    def _print(self, record: logging.LogRecord) -> None:
        line = line_of(record)
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        text = Text.assemble((line.subject, "bold"), " " if line.subject else "")
        text.append(line.what, line.style)
        if line.why:
            text.append(f": {line.why}", line.style if record.levelno > logging.INFO else "")
        text.append(f"  {line.hint}" if line.hint else "", "dim")
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(Text(time, style="dim"), text)
        self._console.print(row)

    def _draw(self) -> None:
        if not self._running:
            return
        said = [f"{work}: {how_far}" if how_far else work for work, how_far in self._running.values()]
        text = Text(f"running  {'  |  '.join(said)}", style="cyan", no_wrap=True, end="")
        text.truncate(self._console.width - 1, overflow="ellipsis")
        self._console.print(text, end="")
        self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._shown = False


def handler(form: str, console: Console) -> logging.Handler:
    """The handler for `--log-format`: auto is a stream of colours on a terminal and plain lines elsewhere."""
    if form == "auto" and console.is_terminal and not console.is_dumb_terminal:
        return TerminalHandler(console)
    return LineHandler(JsonLines() if form == "json" else PlainLines())


def _subject(fields: Mapping[str, str]) -> str:
    """`taxi/trainer spans 1..3 (3)`, or the file that an event is about."""
    place = "/".join(fields[name] for name in ("pipeline", "node") if name in fields)
    if not place:
        return fields.get("file", "")
    piece, key = fields.get("piece", ""), fields.get("key", "")
    return f"{place}.{piece} {key.removeprefix(piece).strip()}".rstrip() if piece else f"{place} {key}".rstrip()


def _what(event: str, fields: Mapping[str, str]) -> str:
    execution = f"execution {fields.get('execution')}"
    match event:
        case Event.EXECUTION_STARTED.value:
            again = f", attempt {fields['attempt']}" if fields.get("attempt", "1") != "1" else ""
            return f"{execution} started{again}"
        case Event.EXECUTION_PROGRESS.value:
            return f"{execution}: {fields.get('progress', '')}"
        case Event.EXECUTION_ENDED.value:
            took = f" in {fields['took']}" if fields.get("took") else ""
            return f"{execution} {fields.get('state')}{took}"
        case Event.REQUEST.value:
            which = f" {execution}" if "execution" in fields else ""
            return f"{fields.get('who')} asks: {fields.get('verb')}{which}"
        case Event.DECISION.value:
            return {"wait": "waits", "blocked": "blocked"}.get(fields.get("action", ""), event)
        case Event.SPEC_LOADED.value if "file" in fields:
            return f"{event} from {fields['file']}"
    return event
