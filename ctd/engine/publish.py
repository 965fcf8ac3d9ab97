"""The only place where staged outputs become artifacts, and where files of ctd's own are moved and removed."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ctd.core.artifacts import Artifact
from ctd.core.errors import ComponentFailed, IllegalTransition, StorageUnavailable
from ctd.core.executions import Execution, Outcome
from ctd.core.facts import Damage
from ctd.core.failpoints import fp
from ctd.engine.sealing import sync
from ctd.storage.layout import StateDir
from ctd.storage.remains import write_note

_HINT = "Free space or mend the disk of the state directory; ctd tries again."


def publish(staging: Path, outcome: Outcome, place: Callable[[str], Path]) -> Outcome:
    """Move each output from staging to its place for good; the outcome with final, absolute URIs.

    The files were made durable by the worker. Repeating it after a crash half-way finishes the rest. Raises
    ComponentFailed for outputs that are not where they may be, StorageUnavailable if the disk refuses.
    """
    for output, artifacts in outcome.outputs.items():
        for artifact in artifacts:
            _check(staging, output, artifact)
    try:
        for output in outcome.outputs:
            _move(staging / output, place(output))
        if staging.exists():
            shutil.rmtree(staging)
    except OSError as error:
        raise StorageUnavailable(f"outputs cannot be put in place: {error}", hint=_HINT) from error
    placed = {output: tuple(_placed(a, place(output)) for a in made) for output, made in outcome.outputs.items()}
    return replace(outcome, outputs=placed)


def sweep(state: StateDir, execution: Execution) -> None:
    """Remove what an execution that did not succeed has left: its staging, and outputs that were never recorded."""
    node = _node_folder(state, execution)
    try:
        outputs = [folder / str(execution.id) for folder in node.iterdir()] if node.is_dir() else []
    except OSError as error:
        raise StorageUnavailable(f"{node} cannot be read: {error}", hint=_HINT) from error
    for path in (*outputs, state.staging(execution.id)):
        _remove(state, path)


def sweep_staging(state: StateDir) -> None:
    """Remove everything staged. Only while nothing runs."""
    root = _staging_root(state)
    for path in root.iterdir() if root.is_dir() else ():
        _remove(state, path)


def collect(state: StateDir, artifact: Artifact) -> None:
    """Remove the files of an artifact that the metadata no longer counts as live. Repeating it does nothing."""
    fp("gc.before_unlink")
    place = Path(artifact.uri)
    _remove(state, place)
    _forget_empty(state, place.parent)


def _forget_empty(state: StateDir, above: Path) -> None:
    if above.is_relative_to(state.artifacts) and len(above.relative_to(state.artifacts).parts) == 4:
        with contextlib.suppress(OSError):
            above.rmdir()  # an output of several artifacts, of which this was the last


def set_aside(state: StateDir, damage: Damage) -> Damage:
    """Move the files of a damaged artifact to where nothing uses or removes them; the damage, with that place.

    A note is written first. Without `aside` the place is empty by now. Raises IllegalTransition for what is not in
    ctd's artifact store, StorageUnavailable if the disk refuses.
    """
    place = Path(damage.uri)
    inside = place.parts[len(state.artifacts.parts) :]
    if not place.is_relative_to(state.artifacts) or len(inside) < 4 or ".." in inside:
        raise IllegalTransition(f"{place} is not ctd's to move", hint="Only what lies in its artifact store is.")
    folder = state.damaged.joinpath(*inside[:3])
    try:
        if not os.path.lexists(place):
            return damage
        _make_folder(folder)
        remains = next(p for n in itertools.count(1) if not os.path.lexists(p := folder / f"{inside[3]}-{n}"))
        kept = replace(damage, aside=str(remains))
        fp("aside.before_note")
        write_note(kept)
        fp("aside.before_move")
        place.rename(remains)
        fp("aside.after_move")
        sync(place.parent)
        sync(folder)
    except OSError as error:
        raise StorageUnavailable(f"{place} cannot be set aside: {error}", hint=_HINT) from error
    _forget_empty(state, place.parent)
    return kept


def _check(staging: Path, output: str, artifact: Artifact) -> None:
    inside = PurePosixPath(artifact.uri)
    staged = staging / output
    if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (output,) or staged.is_symlink():
        raise ComponentFailed(
            f"output {output} claims to be at {artifact.uri}, outside {staged}",
            hint="Components write below work.output(...); nothing but ctd's worker writes .outcome.json.",
        )


def _move(staged: Path, final: Path) -> None:
    if final.is_dir():
        if staged.is_dir():
            raise IllegalTransition(f"{final} is there already", hint="Two executions had one number: please report.")
        return  # moved before a crash
    _make_folder(final.parent)
    fp("art.before_rename")
    staged.rename(final)
    fp("art.after_rename")
    sync(final.parent)
    fp("art.after_dirsync")


def _make_folder(path: Path) -> None:
    """mkdir -p that survives power loss."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def _placed(artifact: Artifact, final: Path) -> Artifact:
    return replace(artifact, uri=str(final.joinpath(*PurePosixPath(artifact.uri).parts[1:])))


def _remove(state: StateDir, path: Path) -> None:
    """Remove a tree below the state directory: out of sight by one rename first, so that nobody sees half of it."""
    root = _staging_root(state)
    above = path.parent.resolve()
    if path.name in ("", "..") or not above.is_relative_to(root.parent.resolve()) or above == root.parent.resolve():
        raise IllegalTransition(f"{path} is not ctd's to remove", hint="Only what lies below the state directory is.")
    try:
        if not os.path.lexists(path):
            return
        if above != root.resolve():
            _make_folder(root)
            hidden = root / f"gone-{'-'.join(path.relative_to(root.parent).parts)}"
            if hidden.exists():
                shutil.rmtree(hidden)
            path.rename(hidden)
            sync(above)
            path = hidden
        fp("gc.mid_tree")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be removed: {error}", hint=_HINT) from error


def _staging_root(state: StateDir) -> Path:
    return state.staging(0).parent


def _node_folder(state: StateDir, execution: Execution) -> Path:
    return state.artifact(execution.pipeline, execution.node, "output", execution.id).parent.parent
