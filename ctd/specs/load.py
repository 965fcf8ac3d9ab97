"""From files to specs: one file, or the folders that the daemon watches, with all problems at their lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from glob import has_magic
from os.path import normpath
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from ctd.core.errors import SpecError
from ctd.core.overlaps import reaches_into
from ctd.specs.base import Complaints
from ctd.specs.document import Document, Flawed, read_document
from ctd.specs.downstream import smaller_windows
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.nodes import PusherSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem, SpecProblems
from ctd.specs.set_aside import Checked, check
from ctd.specs.targets import AnyTarget
from ctd.specs.timing import TimedNode
from ctd.specs.together import shared_paths, twin_paths, unknown_pools, unmeasured_metrics

S = TypeVar("S")

_EXAMPLES = {"pipeline": "`pipeline: taxi` and `nodes:`", "target": "`target: serving`, `kind:` and `path:`"}


@dataclass(frozen=True)
class Loaded:
    """What the folders say, by file. A file with problems has no spec here, unless they are all warnings.

    `broken_targets` are names that target files with problems declare: who pushes there is not at fault. `unread` are
    folders of which nobody knows what they hold.
    """

    pipelines: Mapping[str, PipelineSpec] = field(default_factory=dict)
    targets: Mapping[str, AnyTarget] = field(default_factory=dict)
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    broken_targets: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """All problems that are no warnings, by file and line."""
        return tuple(p for file in sorted(self.problems) for p in self.problems[file] if not p.warning)


@dataclass(frozen=True)
class Draft:
    """A folder as it would be with this file in the place of the one that declares the same pipeline, or target."""

    folder: Path
    file: Path


def load_pipeline(path: str | Path) -> PipelineSpec:
    """Read one pipeline. Raises SpecProblems with everything that is wrong with the file."""
    return _validated(str(path), _Kind("pipeline", PipelineSpec), Path(path).parent)


def load_target(path: str | Path) -> AnyTarget:
    """Read one target. Raises SpecProblems with everything that is wrong with the file."""
    target: AnyTarget = _validated(str(path), _Kind("target", AnyTarget), Path(path).parent)
    return target


def load_folder(
    specs: str | Path | Draft,
    targets: str | Path | Draft,
    state: str | Path | None = None,
    check_cron: Callable[[str, str], None] = lambda cron, zone: None,
    pools: Collection[str] | None = None,
    in_force: Loaded | None = None,
) -> Loaded:
    """Read all pipelines and targets. One bad file never hides another, and nothing is raised.

    `state` is where ctd keeps what it makes: like specs and targets no place for data. `check_cron` raises SpecError
    for fields or a time zone that there are not; it needs a library that workers should not have to import. `pools` are
    the names of those that the daemon limits, if that is known. `in_force` is what goes on where a file is refused:
    of two that cannot be together it is not the one at fault.
    """
    before = in_force or Loaded()
    problems: dict[str, list[Problem]] = defaultdict(list)
    destinations: _Folder[AnyTarget] = _Folder(_Kind("target", AnyTarget), _folder(targets), problems)
    destinations.read()
    pipelines: _Folder[PipelineSpec] = _Folder(_Kind("pipeline", PipelineSpec), _folder(specs), problems)
    pipelines.read()
    if isinstance(specs, Draft):
        pipelines.suppose(str(specs.file))
    if isinstance(targets, Draft):
        destinations.suppose(str(targets.file))
    names = {target.target for target in destinations.specs.values()}
    for problem in twin_paths(destinations.standing(before.targets), destinations.documents, before.targets):
        problems[problem.file].append(problem)
    broken = frozenset(destinations.broken())
    folders = {"specs": _folder(specs), "targets": _folder(targets), **({"state directory": state} if state else {})}
    own = [(f"ctd's own {what}", _absolute(folder)) for what, folder in folders.items()]
    own += [
        (f"the versions on target {target.target}", target.base_path(pipeline.name))
        for target in destinations.specs.values()
        for pipeline in pipelines.specs.values()
    ]
    for file, pipeline, believed in pipelines.looked_at():
        document = pipelines.documents[file]
        problems[file] += believed(_misplaced_inputs(pipeline, document, own))
        problems[file] += believed(_bad_schedules(pipeline, document, check_cron))
        problems[file] += believed(_unknown_targets(pipeline, document, names, broken, unread=destinations.unreadable))
        problems[file] += believed(unknown_pools(pipeline, document, pools) if pools is not None else ())
        if _fits_together(pipeline):
            problems[file] += believed(smaller_windows(pipeline, document))
            problems[file] += believed(set(_missing_files(pipeline, document)))  # several nodes share a module
    for file, target, believed in destinations.looked_at():
        problems[file] += believed(unmeasured_metrics(target, destinations.documents[file], pipelines.specs.items()))
    standing = pipelines.standing(before.pipelines), destinations.standing(before.targets)
    documents = {**pipelines.documents, **destinations.documents}
    for problem in shared_paths(*standing, documents, (before.pipelines, before.targets)):
        problems[problem.file].append(problem)
    said = {file: tuple(sorted(found)) for file, found in problems.items() if found}
    unread = frozenset(str(folder.path) for folder in (pipelines, destinations) if not folder.listed)
    return Loaded(pipelines.good(), destinations.good(), said, broken, unread)


@dataclass(frozen=True)
class _Kind(Generic[S]):
    """What a file is to hold: the key that names it, and its model."""

    key: str
    model: Any


@dataclass
class _Folder(Generic[S]):
    """The files of one folder on their way to being specs."""

    kind: _Kind[S]
    path: Path
    problems: dict[str, list[Problem]]
    listed: bool = False  # whether it is known what is in it
    unreadable: bool = False  # it is there, and yet not known
    documents: dict[str, Document] = field(default_factory=dict)
    specs: dict[str, S] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    halves: dict[str, Checked[S]] = field(default_factory=dict)  # what is left of files with problems

    def looked_at(self) -> Iterator[tuple[str, S, Callable[[Iterable[Problem]], list[Problem]]]]:
        """Every file with what it says as far as that can be read, and which problems to believe."""
        for file, spec in self.specs.items():
            yield file, spec, list
        for file, checked in self.halves.items():
            if checked.spec is not None:
                yield file, checked.spec, partial(_believed, checked.doubtful(self.documents[file]))

    def read(self) -> None:
        try:
            files = sorted(str(path) for path in self.path.iterdir() if _is_spec(path))
        except OSError as error:
            message = f"the folder cannot be read: {error.strerror or error}"
            # Without targets a pipeline may do all but push; one that does push is told at its own line.
            self.unreadable = not isinstance(error, FileNotFoundError)
            mild = self.kind.key == "target" and not self.unreadable
            hint = "Make it, or name another folder. What a running daemon has read of it stays in force until then."
            self.problems[str(self.path)].append(Problem(str(self.path), 1, 1, message, hint, warning=mild))
            return
        self.listed = True
        for file in files:
            self._read(file)
        self.unread = [file for file in files if file not in self.documents]
        self._refuse_twins()

    def suppose(self, draft: str) -> None:
        """Put a file in the place of those that say what has its name."""
        said = [(file, _name_in(document, self.kind.key)) for file, document in self.documents.items()]
        self.problems.pop(draft, None)
        self._read(draft)
        name = _name_in(self.documents[draft], self.kind.key) if draft in self.documents else ""
        for file in (file for file, other in said if file != draft and other == name):
            self.documents.pop(file)
            self.specs.pop(file, None)
            self.halves.pop(file, None)
            self.problems.pop(file, None)

    def _read(self, file: str) -> None:
        try:
            self.documents[file], flaws = _read_on(file, self.kind)
            self.problems[file] += flaws
            checked = _checked(self.documents[file], self.kind, self.path)
        except SpecProblems as error:
            self.problems[file] += error.problems
            return
        self.problems[file] += checked.problems
        if checked.spec is not None and not flaws and not checked.problems:
            self.specs[file] = checked.spec
        elif checked.spec is not None:
            self.halves[file] = checked

    def good(self) -> dict[str, S]:
        """The specs of files without problems other than warnings."""
        return {file: spec for file, spec in self.specs.items() if all(p.warning for p in self.problems[file])}

    def standing(self, in_force: Mapping[str, S]) -> dict[str, S]:
        """The good specs, and of files with problems, or in a folder that cannot be read, what is in force."""
        bad = {file for file in in_force if any(not p.warning for p in self.problems.get(file, ()))}
        stays = bad if self.listed else in_force.keys()
        return {**{file: in_force[file] for file in stays}, **self.good()}

    def broken(self) -> Iterator[str]:
        """The names that files with problems declare, or would by their own name."""
        good = self.good()
        yield from (Path(file).stem for file in self.unread)
        for file, document in self.documents.items():
            if file not in good:
                yield _name_in(document, self.kind.key)

    def _refuse_twins(self) -> None:
        """Two files that claim one name: neither may win by its file's name, so both are at fault."""
        claims: dict[str, list[str]] = defaultdict(list)
        for file, document in self.documents.items():
            claims[_name_in(document, self.kind.key)].append(file)
        for name, files in claims.items():
            for file in files if name else ():
                for other in files:
                    if other != file:
                        message = f"{self.kind.key} {name!r} is also declared in {Path(other).name}"
                        problem = self.documents[file].problem((self.kind.key,), message, "Rename one of them.")
                        self.problems[file].append(problem)


def _believed(doubtful: Collection[tuple[int, int]], problems: Iterable[Problem]) -> list[Problem]:
    """Problems that are not about what was set aside."""
    return [p for p in problems if (p.line, p.column) not in doubtful]


def _folder(said: str | Path | Draft) -> Path:
    return said.folder if isinstance(said, Draft) else Path(said)


def _is_spec(path: Path) -> bool:
    """Whether a file is one of ours: editors' copies and locks begin with a dot or #, or end otherwise."""
    return path.suffix in (".yaml", ".yml") and not path.name.startswith((".", "#"))


def _name_in(document: Document, key: str) -> str:
    said = document.value.get(key) if isinstance(document.value, dict) else None
    return said if isinstance(said, str) else ""


def _validated(file: str, kind: _Kind[S], base: Path) -> S:
    """What a file says. Raises SpecProblems with all that is wrong with it."""
    document, flaws = _read_on(file, kind)
    checked = _checked(document, kind, base)
    if flaws or checked.problems or checked.spec is None:
        raise SpecProblems([*flaws, *checked.problems])
    return checked.spec


def _read_on(file: str, kind: _Kind[S]) -> tuple[Document, tuple[Problem, ...]]:
    """The document, and what is wrong with it although it could be read. Raises SpecProblems if it could not."""
    try:
        return read_document(file), ()
    except Flawed as error:
        if not _name_in(error.document, kind.key):
            raise  # it may be no spec at all
        return error.document, error.problems


def _checked(document: Document, kind: _Kind[S], base: Path) -> Checked[S]:
    """The document as the model, its paths against `base`. Raises SpecProblems if it is none of this kind at all."""
    other = {"pipeline": "target", "target": "pipeline"}[kind.key]
    value = document.value
    if value is None:
        raise SpecProblems([document.problem((), "the file is empty", f"A {kind.key} has {_EXAMPLES[kind.key]}.")])
    if isinstance(value, dict) and other in value and kind.key not in value:
        message = f"this declares a {other}, but the folder is for {kind.key}s"
        raise SpecProblems([document.problem((other,), message, f"Move the file to the folder of {other}s.")])
    return check(document, TypeAdapter(kind.model), kind.model, str(base.absolute()))


def _unknown_targets(
    pipeline: PipelineSpec, document: Document, names: Iterable[str], broken: Iterable[str], *, unread: bool
) -> Iterator[Problem]:
    known = sorted(names)
    for node, spec in pipeline.nodes.items():
        for i, target in enumerate(spec.targets if isinstance(spec, PusherSpec) else ()):
            place = ("nodes", node, "targets", i)
            if target in broken:
                message = f"the file of target {target!r} has problems: {node} cannot push there"
                yield document.problem(place, message, "Mend that file.", warning=True)
            elif unread:
                message = f"the folder of targets cannot be read: nobody knows whether there is {target!r}"
                yield document.problem(place, message, "Make it readable.", warning=True)
            elif target not in known:
                there = sorted({*known, *broken} - {""})
                hint = f"{did_you_mean(target, there)}Targets are {listed(there)}; each has a file of its own."
                yield document.problem(place, f"there is no target {target!r}", hint)


def _bad_schedules(
    pipeline: PipelineSpec, document: Document, check_cron: Callable[[str, str], None]
) -> Iterator[Problem]:
    for node, spec in pipeline.nodes.items():
        schedule = spec.schedule if isinstance(spec, TimedNode) else None
        if schedule is not None and schedule.cron is not None:
            try:
                check_cron(schedule.cron, schedule.timezone)
            except SpecError as error:
                yield document.problem(("nodes", node, "schedule", "cron"), error.message, error.hint)


def _misplaced_inputs(pipeline: PipelineSpec, document: Document, own: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Inputs that would read what ctd itself writes, or is told by: it would feed on its own results."""
    for node, spec in pipeline.inputs.items():
        for split, pattern in spec.patterns.items():
            for what, folder in own:
                if reaches_into(pattern, folder):
                    message = f"nodes.{node} would read {what} ({folder})"
                    hint = "Point `input` to a folder where only data arrives."
                    yield document.problem(("nodes", node, "input", *([split] if split else [])), message, hint)


def _absolute(folder: str | Path) -> str:
    return normpath(Path(folder).absolute())


def _fits_together(pipeline: PipelineSpec) -> bool:
    """Whether its nodes do, so that it is known what each of them uses."""
    try:
        return bool(pipeline.work)
    except Complaints:
        return False


def _missing_files(pipeline: PipelineSpec, document: Document) -> Iterator[Problem]:
    """Warnings only: a file may arrive later, and its node waits for it."""
    for piece in pipeline.work:
        node = pipeline.nodes[piece.node]
        if piece.module and not Path(piece.module).is_file():
            place = ("nodes", piece.node, "module") if getattr(node, "module", None) else ("module",)
            yield document.problem(
                place, f"the module {piece.module} does not exist", "Put it there, or mend the path.", warning=True
            )
        for name, path in piece.piece.files.items():
            if not Path(path).exists() and not has_magic(path):
                yield document.problem(
                    ("nodes", piece.node, name.partition(" ")[0]),
                    f"{path} does not exist",
                    "Put it there, or mend the path.",
                    warning=True,
                )
