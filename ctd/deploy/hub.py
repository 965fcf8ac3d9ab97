"""A version of a model repository: the SavedModel with a card that says what it is, and both as one archive.

`hub.load` reads the folder, and over HTTP the archive (`?tf-hub-format=compressed`), which has the model at its root.
Clients keep what they fetched for ever, so a version never changes, and equal content gives an equal archive.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctd.deploy.tree import manifest

MANIFEST, CARD, ARCHIVE = "model.json", "MODEL_CARD.md", "model.tar.gz"
_MOST_SLICES = 50


def write_version(model: Path, to: Path, card: Mapping[str, Any]) -> None:
    """Fill an empty folder with the files of a version. `card` is what is known of the model, as JSON values."""
    shutil.copytree(model, to, dirs_exist_ok=True)
    said = {**card, "files": dict(manifest(to))}
    (to / MANIFEST).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    (to / CARD).write_text(card_text(said))
    _archive(to, to / ARCHIVE)


def card_text(said: Mapping[str, Any]) -> str:
    """The card for people, in Markdown."""
    lines = [
        f"# {said['handle']}",
        "",
        f"Model #{said['model']} of pipeline {said['pipeline']}, trained {said['trained']}.",
    ]
    spans = [f"{s['span']}" + (f" v{s['version']}" if s["version"] is not None else "") for s in said["spans"]]
    lines += ["", "## Data", "", f"Spans: {', '.join(spans) or 'none of ours'}."]
    lines += ["", "## Blessings", "", *(f"- {reason}" for reason in said["verdicts"])]
    lines += ["", "## Metrics", "", *_metrics(said["metrics"])]
    lines += ["", "## Signatures", ""]
    for name, signature in sorted(said["signatures"].items()):
        lines.append(f"- `{name}`: {_tensors(signature['inputs'])} -> {_tensors(signature['outputs'])}")
    lines += [
        "",
        "## Made by",
        "",
        f"Code {said['code'][:12] or 'not recorded'}, settings `{json.dumps(said['settings'], sort_keys=True)}`.",
    ]
    lines += ["", "| node | execution | work |", "|---|---|---|"]
    lines += [f"| {step['node']} | {step['execution']} | {step['fingerprint'][:12]} |" for step in said["made_by"]]
    lines += ["", "## Files (SHA-256)", "", "| file | digest |", "|---|---|"]
    lines += [f"| {name} | {digest} |" for name, digest in sorted(said["files"].items())]
    return "\n".join(lines) + "\n"


def _metrics(rows: list[dict[str, Any]]) -> list[str]:
    """A table with a line for each slice, the whole first."""
    mine = [row for row in rows if row["model"] == "candidate"]
    if not mine:
        return ["Not evaluated."]
    names = list(mine[0]["metrics"])
    lines = [f"| slice | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row in mine[:_MOST_SLICES]:
        where = ", ".join(f"{key}={value}" for key, value in row["slice"]) or "all"
        lines.append(f"| {where} | {' | '.join(_number(row['metrics'].get(name)) for name in names)} |")
    return lines + ([f"and {len(mine) - _MOST_SLICES} more slices"] if len(mine) > _MOST_SLICES else [])


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tensors(tensors: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(f"{name} {spec['dtype']}{spec['shape']}" for name, spec in sorted(tensors.items()))


def _archive(folder: Path, to: Path) -> None:
    """Everything in the folder, sorted, without times and owners: equal content is equal bytes."""
    files = manifest(folder)
    # `hub.load` makes no folder for a file: each has an entry of its own, before its files.
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    with (
        to.open("wb") as file,
        gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(folders | files.keys()):
            info = tarfile.TarInfo(name)
            if name in folders:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            info.size, info.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as content:
                archive.addfile(info, content)
