"""What is wrong with a file of the user's, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ctd.core.errors import SpecError

_MOST = 400  # characters of a message


@dataclass(frozen=True, order=True)
class Problem:
    """One complaint about one place in a file. A `warning` does not keep the spec from being used."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    warning: bool = False

    def __post_init__(self) -> None:
        # A message may quote the file, and a file may hold anything.
        for name in ("message", "hint"):
            text = "".join(c if c.isprintable() else "\ufffd" for c in getattr(self, name))
            object.__setattr__(self, name, text if len(text) <= _MOST else f"{text[: _MOST - 60]} ... {text[-50:]}")

    def __str__(self) -> str:
        """`specs/taxi.yaml:7: nodes.trainer has no key 'windw'. Did you mean 'window'?`"""
        mild = "warning: " if self.warning else ""
        said = self.message if not self.hint else f"{self.message}. {self.hint}"
        return f"{self.file}:{self.line}: {mild}{said}"


class SpecProblems(SpecError):
    """A file cannot be used; `problems` has all that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__(
            "\n".join(map(str, self.problems)), hint="Mend the file; until then the last good version stays in use."
        )
