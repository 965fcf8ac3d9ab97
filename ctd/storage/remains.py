"""Notes on what became of damaged artifacts, one beside the remains of each: they tell plans why it is made again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ctd.core.facts import Damage


def note_of(remains: Path) -> Path:
    """Where the note on these remains is."""
    return remains.with_name(f"{remains.name}.json")


def write_note(damage: Damage) -> None:
    """Write the note so that it is there whole, or not at all. Raises OSError."""
    note = note_of(Path(damage.aside))
    new = note.with_suffix(".new")
    with new.open("w") as file:
        json.dump(asdict(damage), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    new.replace(note)


def read_notes(root: Path) -> Mapping[str, Damage]:
    """What was set aside below `root`, by the place where it was. Notes that cannot be read say nothing."""
    found = {}
    notes: list[Path] = []
    with contextlib.suppress(OSError):
        notes += root.glob("*/*/*/*.json")
    for note in notes:
        with contextlib.suppress(OSError, ValueError, TypeError):
            damage = Damage(**json.loads(note.read_text()))
            if not os.path.lexists(damage.uri):  # else a crash came between the note and the move
                found[damage.uri] = damage
    return found
