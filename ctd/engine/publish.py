"""The only place where staged outputs become artifacts, and where files of ctd's own are moved and removed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ctd.core.artifacts import Artifact
from ctd.core.errors import ComponentFailed, IllegalTransition, MachineUnavailable, StorageUnavailable
from ctd.core.executions import Execution, Outcome
from ctd.core.facts import Damage
from ctd.core.failpoints import fp
from ctd.core.machine import machine
from ctd.engine.sealing import make_durable, sync
from ctd.storage.layout import StateDir
from ctd.storage.remains import write_note

COPYING, ARRIVED, GONE = "copying", "arrived", "gone"
_SUFFIXES = frozenset({f".{COPYING}", f".{ARRIVED}", f".{GONE}"})  # of hidden folders beside artifacts


class Elsewhere(Exception):
    """Staging and the place of an output are on different file systems: it has to be copied there first."""


def publish(staging: Path, outcome: Outcome, place: Callable[[str], Path]) -> Outcome:
    """Move each output from staging to its place for good; the outcome with final, absolute URIs.

    The files were made durable by the worker. Repeating it after a crash half-way finishes the rest. Raises
    ComponentFailed for outputs that are not where they may be, StorageUnavailable if the disk refuses, Elsewhere if
    `bring_near` has to come first. What else is staged and cannot be removed is left to `sweep_staged`.
    """
    with machine("art.publish", "outputs cannot be put in place"):
        for output, artifacts in outcome.outputs.items():
            for artifact in artifacts:
                _check(staging, output, artifact)
        for output in outcome.outputs:
            _move(staging / output, place(output))
    with contextlib.suppress(OSError):  # what made it a success is done: the rest is swept later
        if staging.exists():
            shutil.rmtree(staging)
    placed = {output: tuple(_placed(a, place(output)) for a in made) for output, made in outcome.outputs.items()}
    return replace(outcome, outputs=placed)


def bring_near(staging: Path, outcome: Outcome, place: Callable[[str], Path]) -> None:
    """Copy each output, durably and under a hidden name, to the file system of its place: `publish` renames it there.

    Repeating it after a crash half-way does the rest. Raises StorageUnavailable if a disk refuses.
    """
    with machine("art.copy", "outputs cannot be copied to the file system of the artifacts"):
        for output in outcome.outputs:
            final = place(output)
            copying, near = _hidden(final, COPYING), _hidden(final, ARRIVED)
            if final.is_dir() or near.is_dir():
                continue
            _make_folder(final.parent)
            if _there(copying):
                shutil.rmtree(copying)
            fp("art.before_copy")
            shutil.copytree(staging / output, copying, symlinks=True)
            make_durable(copying)
            fp("art.after_copy")
            copying.rename(near)
            sync(near.parent)
            fp("art.near")


def sweep(state: StateDir, execution: Execution) -> None:
    """Remove what an execution that did not succeed has left: its staging, and outputs that were never recorded."""
    node = _node_folder(state, execution)
    with machine("sweep.look", "what it has left cannot be looked for", node):
        folders = list(node.iterdir()) if node.is_dir() else []
    for folder in folders:
        final = folder / str(execution.id)
        for path in (final, _hidden(final, COPYING), _hidden(final, ARRIVED)):
            _remove(state, path)
    sweep_staged(state, execution)


def sweep_staged(state: StateDir, execution: Execution) -> None:
    """Remove what an execution has left in staging."""
    _remove(state, state.staging(execution.id))


def sweep_staging(state: StateDir) -> None:
    """Remove everything staged, as far as that is possible: what is not is said at the end. Only while nothing runs."""
    root = _staging_root(state)
    with machine("sweep.staging", "what is staged cannot be looked at", root):
        staged = list(root.iterdir()) if root.is_dir() else []
        staged += _left_across(state) if _across(state) else ()
    refused = [error for path in staged if (error := _refusal(state, path))]
    if refused:
        raise refused[0]


def _refusal(state: StateDir, path: Path) -> StorageUnavailable | MachineUnavailable | None:
    try:
        _remove(state, path)
    except (StorageUnavailable, MachineUnavailable) as error:
        return error
    return None


def _across(state: StateDir) -> bool:
    """Whether staging and artifacts are on different disks. A bind mount is not seen: what it left is found by name."""
    with contextlib.suppress(OSError):
        return _staging_root(state).stat().st_dev != state.artifacts.stat().st_dev
    return False


def _left_across(state: StateDir) -> Iterator[Path]:
    """What a crash left of copies to, and removals on, the file systems of artifacts."""
    for folder in state.artifacts.glob("*/*/*"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(".") and path.suffix in _SUFFIXES:
                yield path


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
    with machine("aside.move", "it cannot be set aside", place):
        if not _there(place):
            return damage
        _make_folder(folder)
        remains = next(p for n in itertools.count(1) if not _there(p := folder / f"{inside[3]}-{n}"))
        kept = replace(damage, aside=str(remains))
        fp("aside.before_note")
        write_note(kept)
        fp("aside.before_move")
        _rename_or_copy(place, remains)
        fp("aside.after_move")
        sync(place.parent)
        sync(folder)
    _forget_empty(state, place.parent)
    return kept


def _rename_or_copy(place: Path, remains: Path) -> None:
    try:
        place.rename(remains)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copying = _hidden(remains, COPYING)
        if _there(copying):
            shutil.rmtree(copying)
        shutil.copytree(place, copying, symlinks=True)
        copying.rename(remains)
        shutil.rmtree(place)


def _check(staging: Path, output: str, artifact: Artifact) -> None:
    inside = PurePosixPath(artifact.uri)
    staged = staging / output
    if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (output,) or staged.is_symlink():
        raise ComponentFailed(
            f"output {output} claims to be at {artifact.uri}, outside {staged}",
            hint="Components write below work.output(...); nothing but ctd's worker writes .outcome.json.",
        )


def _move(staged: Path, final: Path) -> None:
    near = _hidden(final, ARRIVED)
    if final.is_dir():
        if staged.is_dir():
            raise IllegalTransition(f"{final} is there already", hint="Two executions had one number: please report.")
        return  # moved before a crash
    if near.is_dir():
        if staged.is_dir():
            staged.rename(staged.with_name(f".{staged.name}.copied"))
        fp("art.before_arrival")
        near.rename(final)
        fp("art.after_arrival")
    else:
        _make_folder(final.parent)
        try:
            fp("art.before_rename")
            staged.rename(final)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise Elsewhere from error
            raise
        fp("art.after_rename")
    sync(final.parent)
    fp("art.after_dirsync")


def _hidden(final: Path, what: str) -> Path:
    return final.with_name(f".{final.name}.{what}")


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
    with machine("remove", "it cannot be removed", path):
        if not _ours(state, path):
            hint = "Only what lies below the state directory is."
            raise IllegalTransition(f"{path} is not ctd's to remove", hint=hint)
        if _there(path) and not path.parent.samefile(root):
            _out_of_sight(path, root)
        for rest in (path, *_out_of_sight_names(path, root)):  # of an earlier time, too, that was cut short
            if _there(rest):
                fp("gc.mid_tree")
                _remove_tree(rest)


def _there(path: Path) -> bool:
    """Whether there is something, a broken link too. Raises OSError where nobody can tell: that is no absence."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _ours(state: StateDir, path: Path) -> bool:
    """Whether it lies in one of the trees that are ctd's, links on the way included; each tree may be a link itself."""
    if path.name in ("", "..") or ".." in path.parts:
        return False
    for tree in (state.artifacts, _staging_root(state)):
        if path.is_relative_to(tree) and path != tree:
            return path.parent.resolve().is_relative_to(tree.resolve())
    return False


def _out_of_sight(path: Path, root: Path) -> None:
    """Rename it into staging, or beside itself if staging is on another file system."""
    _make_folder(root)
    if path.suffix in _SUFFIXES and path.name.startswith("."):
        return  # it is out of sight
    gone, beside = _out_of_sight_names(path, root)
    for hidden in (gone, beside):
        if _there(hidden):
            _remove_tree(hidden)
        try:
            fp("remove.rename")
            path.rename(hidden)
        except OSError as error:
            if error.errno != errno.EXDEV or hidden == beside:
                raise
        else:
            sync(path.parent)
            return


def _out_of_sight_names(path: Path, root: Path) -> tuple[Path, Path]:
    return root / f"gone-{'-'.join(path.relative_to(root.parent).parts)}", _hidden(path, GONE)


def _remove_tree(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _staging_root(state: StateDir) -> Path:
    return state.staging(0).parent


def _node_folder(state: StateDir, execution: Execution) -> Path:
    return state.artifact(execution.pipeline, execution.node, "output", execution.id).parent.parent
