"""`ctd validate`: everything that is wrong with specs and targets, each thing at its line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import click

from ctd.api.models import ProblemView, ValidationView
from ctd.cli import render
from ctd.cli.options import as_json, folders, given_flags
from ctd.cli.text import counted
from ctd.core.lookalikes import times_in_numbers
from ctd.core.timing import SystemClock
from ctd.daemon.views import problem_views
from ctd.specs.document import read_document
from ctd.specs.drafts import is_target, project_of
from ctd.specs.load import Draft, Loaded, load_folder
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem
from ctd.specs.settings import Settings
from ctd.storage.split_listing import lister_of
from ctd.watching import schedule


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@folders
@click.option(
    "--pool", "pools", metavar="POOL=N", multiple=True, help="As `ctd run` is given it; CTD_POOLS counts too."
)
@as_json
def validate(settings: Settings, paths: tuple[Path, ...], pools: tuple[str, ...], in_json: bool) -> int:
    """Find all that is wrong with the pipelines of --specs and the destinations of --targets, each at its line.

    PATHS are files to check instead, or folders of pipelines. A file may lie anywhere: it is a draft for --specs (or
    --targets), and its paths mean what they will mean there, as with `ctd plan --spec`. Only a file in the folder of
    another project, for a pipeline that --specs does not have, is looked at in that project.

    \b
    JSON: {"pipelines": [names in order], "targets": [...],
           "problems": [{"file", "line", "column", "message", "hint", "warning"}]}
    Exit codes: 0 in order (warnings may be there), 2 something is wrong.
    """
    declared = Settings.resolve({"pools": pools}).pools
    found = [_with_data(loaded) for loaded in _checked(settings, paths, declared)]
    view = ValidationView(
        pipelines=sorted({p.name for loaded in found for p in loaded.pipelines.values()}),
        targets=sorted({t.target for loaded in found for t in loaded.targets.values()}),
        problems=_all_problems(found),
    )
    wrong = any(not p.warning for p in view.problems)
    if in_json:
        click.echo(view.model_dump_json(indent=2))
    else:
        if view.problems:
            render.show(render.problems(view.problems))
        click.echo(_summary(view))
    return 2 if wrong else 0


def _checked(settings: Settings, paths: tuple[Path, ...], pools: Collection[str]) -> Iterator[Loaded]:
    if not paths:
        yield load_folder(settings.specs, settings.targets, settings.state, schedule.check, pools)
    for path in paths:
        if path.is_dir():
            beside = Settings.resolve({"specs": path}).targets
            targets = settings.targets if given_flags()["targets"] is not None else beside
            yield load_folder(path, targets, check_cron=schedule.check, pools=pools)
        else:
            yield _file(path, project_of(path, settings, given_flags()), pools)


def _with_data(loaded: Loaded) -> Loaded:
    """The same, with what only the data that is there can tell."""
    problems = {file: (*loaded.problems.get(file, ()), *_looks(spec, file)) for file, spec in loaded.pipelines.items()}
    return replace(loaded, problems={**loaded.problems, **problems})


def _looks(spec: PipelineSpec, file: str) -> Iterator[Problem]:
    """Warnings about spans whose numbers look like times."""
    for name, node in spec.inputs.items():
        there = lister_of(node.patterns, node.complete.rule, SystemClock()).scan().spans
        looks = times_in_numbers(node.pattern, [found.span.number for found in there])
        if looks:
            yield read_document(file).problem(("nodes", name, "input"), *looks, warning=True)


def _file(path: Path, settings: Settings, pools: Collection[str]) -> Loaded:
    """One file with what is around it, less what is not about it."""
    if path.suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"{path} does not end in .yaml: ctd would not read it")
    specs, targets, target = settings.specs, settings.targets, is_target(path)
    at_home = path.absolute().parent.resolve() == (targets if target else specs).resolve()
    name = str((targets if target else specs) / path.name) if at_home else str(path)
    loaded = load_folder(
        specs if target or at_home else Draft(specs, path),
        Draft(targets, path) if target and not at_home else targets,
        settings.state,
        schedule.check,
        pools,
    )
    return Loaded(
        {file: spec for file, spec in loaded.pipelines.items() if file == name},
        {file: said for file, said in loaded.targets.items() if file == name},
        {str(path): found for file, found in loaded.problems.items() if file == name},
    )


def _all_problems(found: list[Loaded]) -> list[ProblemView]:
    problems = {p for loaded in found for several in loaded.problems.values() for p in several}
    return problem_views(sorted(problems))


def _summary(view: ValidationView) -> str:
    errors = sum(1 for p in view.problems if not p.warning)
    warnings = len(view.problems) - errors
    names = f" ({', '.join(view.pipelines + view.targets)})" if view.pipelines or view.targets else ""
    good = f"{counted(len(view.pipelines), 'pipeline')} and {counted(len(view.targets), 'target')} in order{names}"
    wrong = [counted(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return f"{good}; {', '.join(wrong)}." if wrong else f"{good}."
