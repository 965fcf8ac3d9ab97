"""What windows go without is told once, at the node where it arises; those that go without the same point there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ctd.core.executions import LeftOut
from ctd.planning.decided import Taken
from ctd.planning.resolve import joined
from ctd.planning.windows import left_out_note
from ctd.specs.wired import WiredPiece


@dataclass
class ToldOnce:
    """The notes of one plan, in the order of its work."""

    _spans: dict[tuple[str | None, LeftOut], str] = field(default_factory=dict)  # by input: the node that tells of it
    _notes: dict[str, str] = field(default_factory=dict)  # the node that a note arose at

    def told(self, wired: WiredPiece, inputs: Iterable[Taken]) -> str:
        """What a piece of work has to say of its inputs that no node before it has said."""
        parts: list[str] = []
        elsewhere: dict[str, int] = {}  # spans that another node tells of; none counted: all that its note says
        for taken in inputs:
            if taken.left_out:
                new = [left for left in taken.left_out if self._at(wired, left) == wired.node]
                parts.append(left_out_note(new, wired.calendar))
                others = (left for left in taken.left_out if left not in new and left_out_note([left], wired.calendar))
                for node in (self._at(wired, left) for left in others):
                    elsewhere[node] = elsewhere.get(node, 0) + 1
                self._notes.setdefault(taken.note, wired.node)
            elif taken.note:
                node = self._notes.setdefault(taken.note, wired.node)
                if node == wired.node:
                    parts.append(taken.note)
                else:
                    elsewhere.setdefault(node, 0)
        return joined([*parts, *(_pointer(node, spans) for node, spans in elsewhere.items())])

    def _at(self, wired: WiredPiece, left: LeftOut) -> str:
        return self._spans.setdefault((wired.root, left), wired.node)


def _pointer(node: str, spans: int) -> str:
    many = f"{spans} span{'' if spans == 1 else 's'} left out" if spans else "without some spans"
    return f"{many}, as {node} says"
