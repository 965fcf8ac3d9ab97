"""Which project a file belongs to that somebody names: `ctd validate FILE`, `ctd plan --spec FILE`.

One rule for all commands. A file is a draft for the folder of --specs (or --targets), wherever it lies: its paths mean
what they will mean once it is saved there. Only a file in the folder of another project, for a pipeline that this one
does not have, belongs to that one; and where there is no folder of specs at all, its own folder is it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ctd.core.errors import SpecError
from ctd.specs.document import Flawed, read_document
from ctd.specs.settings import Settings

_SPECS, _TARGETS = "specs", "deploy_targets"


def project_of(file: Path, settings: Settings, flags: Mapping[str, object]) -> Settings:
    """The settings under which a file is looked at; `flags` are those that somebody gave."""
    folder = file.absolute().parent
    if is_target(file):
        if _same(folder, settings.targets) or flags.get("targets") is not None or flags.get("specs") is not None:
            return settings
        beside = folder.parent / _SPECS
        other = beside.is_dir() and _name(file, "target") not in set(_names(settings.targets, "target"))
        own = {"specs": beside, "targets": folder}
        return Settings.resolve({**flags, **own}) if other or not settings.targets.is_dir() else settings
    if _same(folder, settings.specs) or flags.get("specs") is not None:
        return settings
    other = (folder.parent / _TARGETS).is_dir() and _name(file, "pipeline") not in set(
        _names(settings.specs, "pipeline")
    )
    return Settings.resolve({**flags, "specs": folder}) if other or not settings.specs.is_dir() else settings


def is_target(file: Path) -> bool:
    """Whether a file declares a target and no pipeline."""
    return bool(_name(file, "target")) and not _name(file, "pipeline")


def _names(folder: Path, key: str) -> Iterator[str]:
    if folder.is_dir():
        yield from (_name(path, key) for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml"))


def _name(file: Path, key: str) -> str:
    """What a file says after `pipeline:` or `target:`; nothing if it cannot be read."""
    try:
        value = read_document(str(file)).value
    except Flawed as error:
        value = error.document.value
    except SpecError:
        return ""
    said = value.get(key) if isinstance(value, dict) else None
    return said if isinstance(said, str) else ""


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
