"""The model config file of a server: which versions of our model it keeps loaded, and which labels they have.

The file is a text ModelServerConfig that may hold other models, comments and fields that are none of ours. Only the
entry of our model is written anew; every other character stays. What was written is read back and compared before it
takes the old file's place by a rename, so that a server that polls never sees half of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ctd.core.errors import TargetUnavailable
from ctd.core.timing import Clock
from ctd.deploy.config_text import ENTRY, blocks, messages
from ctd.deploy.locks import locked
from ctd.deploy.tree import sync_directory


@dataclass(frozen=True)
class Entry:
    """What a server is told about one model: the versions that it loads, and labels for some of them."""

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)


class CannotEdit(ValueError):
    """The text is no ModelServerConfig, or none that can be changed in one place only."""


def entry_of(text: str, model: str) -> Entry | None:
    """What the file says of a model; nothing if it does not name it. Raises CannotEdit."""
    found = _named(_parsed(text), model)
    if found is None:
        return None
    return Entry(frozenset(found.model_version_policy.specific.versions), dict(found.version_labels))


def edited(text: str, model: str, base_path: str, wanted: Entry) -> str:
    """The text with this entry for a model. Raises CannotEdit.

    An entry that is there keeps its base path, which may be another one on the server's machine.
    """
    config = _parsed(text)
    if config.HasField("custom_model_config"):
        raise CannotEdit("it has a custom_model_config instead of a model_config_list")
    entry, places = _named(config, model), blocks(text)
    known = entry is not None
    if not known:
        entry = config.model_config_list.config.add(name=model, base_path=base_path, model_platform="tensorflow")
        place = _room(text)
    else:
        at = [other.name for other in config.model_config_list.config].index(model)
        place = places[at] if at < len(places) else None
    before = type(entry).FromString(entry.SerializeToString())
    entry.ClearField("model_version_policy")
    if wanted.versions:  # servers refuse an empty list
        entry.model_version_policy.specific.versions.extend(sorted(wanted.versions))
    entry.version_labels.clear()
    for label, version in wanted.labels.items():
        entry.version_labels[label] = version
    if known and before == entry:
        return text
    found = _put(text, entry, place)
    if _parsed(found) != config:
        raise CannotEdit(
            f"the entry of {model} cannot be told from what is around it: write one `config {{ }}` a model"
        )
    return found


class ModelConfigFile:
    """One model's entry in the file of a server."""

    def __init__(self, path: Path, model: str, base_path: str, *, lock: timedelta, clock: Clock) -> None:
        self.path = path
        self.model = model
        self._base_path = base_path
        self._lock = lock
        self._clock = clock

    def read(self) -> Entry:
        """What the file says of the model; an empty entry if it does not name it."""
        with self._reachable():
            return entry_of(self._text(), self.model) or Entry()

    def write(self, wanted: Entry) -> None:
        """Have the file say this of the model. Writes nothing if it does already."""
        with self._reachable(), self._locked():
            text = self._text()
            new = edited(text, self.model, self._base_path, wanted)
            if new != text or not self.path.exists():
                self._replace(new)

    def _text(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.path.read_text(encoding="utf-8")
        return ""

    def _replace(self, text: str) -> None:
        place = self.path.resolve()  # of a link the file stays where it is
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.ctd-new")
        with new.open("w", encoding="utf-8") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(place.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(place)
        sync_directory(place.parent)

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except CannotEdit as error:
            hint = "Mend the file, or name another one in `server.config`; it is tried again."
            raise TargetUnavailable(f"model config file {self.path}: {error}", hint=hint) from error
        except (OSError, UnicodeDecodeError) as error:
            hint = "ctd's user must be able to read and replace it; it is tried again."
            raise TargetUnavailable(f"model config file {self.path}: {error}", hint=hint) from error

    def _locked(self) -> AbstractContextManager[None]:
        """One change at a time: targets of several pipelines may share the file."""
        place = self.path.resolve()
        beside = place.with_name(f".{place.name}.ctd-lock")
        return locked(beside, self._lock, self._clock, f"model config file {self.path}: its lock has been held")


def _parsed(text: str) -> Any:
    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise CannotEdit(f"it is no ModelServerConfig: {error}") from error


def _named(config: Any, model: str) -> Any:
    return next((entry for entry in config.model_config_list.config if entry.name == model), None)


def _put(text: str, entry: Any, place: tuple[int, int] | None) -> str:
    """The text with the entry at its place; with `begin == end` as one more, with no place in a list of its own."""
    lines = text_format.MessageToString(entry)
    if place is None:
        more = textwrap.indent(f"config {{\n{textwrap.indent(lines, '  ')}}}\n", "  ")
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}model_config_list {{\n{more}}}\n"
    begin, end = place
    if begin == end:
        more = textwrap.indent(f"config {{\n{textwrap.indent(lines, '  ')}}}\n", "  ")
        gap = "" if text[:begin].endswith("\n") else "\n"
        return f"{text[:begin]}{gap}{more}{text[begin:]}"
    return f"{text[:begin]}{{\n{textwrap.indent(lines, '    ')}  }}{text[end:]}"


def _room(text: str) -> tuple[int, int] | None:
    """Where one more entry can go: before the closing brace of the list; nothing if there is no list."""
    ends = [end for path, _, end in messages(text) if path == ENTRY[:1]]
    if not ends:
        return None
    line = text.rfind("\n", 0, ends[-1] - 1) + 1
    at = line if not text[line : ends[-1] - 1].strip() else ends[-1] - 1
    return at, at
