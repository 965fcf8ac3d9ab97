"""Running what may take its whole process with it: a converter, or a runtime that answers for a converted model.

A converter can abort the process (TFLite's does, on graphs it cannot lower), and leaves half a gigabyte behind in
any case. So each runs as `python -m MODULE JOB`, reads what to do from a JSON file and writes its answer beside it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ctd.core.errors import ComponentFailed
from ctd.core.failpoints import fp
from ctd.core.wrapped_errors import beginning, unwrapped

Feeds = Mapping[str, NDArray[Any]]
"""One batch for a signature by input name, or its answer by output name."""

JOB, ANSWER, LOG = "job.json", "answer.json", "conversion.log"
_LAST_LINES = 5
_LONGEST = 1500  # characters of what a converter says

_TFLITE_OPS = re.compile(r"^(?:TF Select|Flex|Custom) ops: (.+)$", re.MULTILINE)
_TFLITE_OP = re.compile(r"'(?:tf|tfl)\.(\w+)' op is neither a custom op nor a flex op")
_PLACE = re.compile(r"^.*?:\d+:\d*:? (?:error|note): ")
_NOISE = re.compile(r"^(?:\^|loc\(.*called from|Error code: )")


class Form(Protocol):
    """A form that models are converted to: how its files are made, and who answers with them."""

    def convert(self, model: Path, signature: str, to: Path, samples: Sequence[Feeds]) -> None:
        """Make the files of a version in an empty folder, of one signature of a SavedModel; `samples` suit it.

        Raises ComponentFailed where the model cannot be converted.
        """
        ...

    def answers(self, made: Path, feeds: Sequence[Feeds]) -> Sequence[Feeds]:
        """What the files answer in their own runtime, in a fresh process. Raises ComponentFailed if it cannot."""
        ...


@dataclass(frozen=True)
class Program:
    """A command that reads JOB and writes ANSWER in its folder; `does` is what it is for, as in messages."""

    command: Sequence[str]
    does: str
    timeout: timedelta = timedelta(minutes=10)
    hint: str = (
        "An op of the model may have no counterpart in this form. Convert another signature (`signature:` of the "
        "target), or export one of plain numbers."
    )

    @classmethod
    def of_module(cls, module: str, does: str, **more: Any) -> Program:
        """A module of ours, as a program."""
        return cls((sys.executable, "-m", module), does, **more)

    def run(self, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do it. Raises ComponentFailed with what it said last; its whole output is in the folder's LOG.

        A job that is refused has an answer with `refused` and perhaps a `hint`, for people.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JOB).write_text(json.dumps(job))
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  programs of ours, and Node
                [*self.command, str(folder / JOB)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=_environment(),
            )
            try:
                fp("push.program")
                code = process.wait(self.timeout.total_seconds())
            except subprocess.TimeoutExpired as error:
                raise self._failed(folder, f"took longer than {self.timeout.total_seconds():.0f} s") from error
            finally:
                process.kill()  # nothing, where it has ended
                process.wait()
        if code:
            raise self._failed(folder, f"was ended by {_signal(-code)}" if code < 0 else f"ended with code {code}")
        answer: dict[str, Any] = json.loads((folder / ANSWER).read_text())
        if "refused" in answer:
            raise ComponentFailed(str(answer["refused"]), hint=str(answer.get("hint", "")))
        return answer

    def _failed(self, folder: Path, end: str) -> ComponentFailed:
        said = _said_last((folder / LOG).read_text(errors="replace"))
        return ComponentFailed(
            f"{self.does}: its process {end}" + (f": {said}" if said else ""),
            hint=self.hint,
        )


def _said_last(log: str) -> str:
    """The error that a program ended with, or else its last lines."""
    raised = unwrapped(log) if "Traceback (most recent call last):" in log else None
    if raised and raised.kind:
        return f"{raised.kind}: {beginning(raised.message, paragraphs=True)}"[:_LONGEST]
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])[-_LONGEST:]


def refusal(error: BaseException) -> str:
    """What a converter says against a model, in one line with the names of all ops that it names.

    TFLite's says for each op where the call stood and what it takes; what matters comes at the end.
    """
    text = str(error).strip() or type(error).__name__
    native = _TFLITE_OPS.findall(text) or _TFLITE_OP.findall(text)
    if native:
        ops = ", ".join(dict.fromkeys(name.strip() for found in native for name in found.split(",")))
        return f"it has no counterpart for the ops {ops}"
    said = unwrapped(text)
    lines = [_PLACE.sub("", line).strip() for line in beginning(said.message, paragraphs=True).splitlines()]
    one = " ".join(line for line in dict.fromkeys(lines) if line and not _NOISE.match(line))
    return one if len(one) <= _LONGEST else f"{one[:_LONGEST]} [...]"


def _environment() -> dict[str, str]:
    """As the worker has it, but with Keras 3: TFT switches Keras 2 on for whoever comes after it."""
    passed = dict(os.environ)  # noqa: TID251  for what it starts
    passed.pop("TF_USE_LEGACY_KERAS", None)
    return passed


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def write_feeds(path: Path, feeds: Sequence[Feeds]) -> None:
    """Batches as one .npz file, `0/name` and so on."""
    np.savez(path, **{f"{number}/{name}": value for number, batch in enumerate(feeds) for name, value in batch.items()})


def read_feeds(path: Path) -> list[dict[str, NDArray[Any]]]:
    """What `write_feeds` wrote."""
    found: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            found.setdefault(int(number), {})[name] = arrays[key]
    return [found[number] for number in sorted(found)]
