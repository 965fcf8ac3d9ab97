"""I6: after all that happened, the plan is what a state directory that saw none of it comes to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctd.core.artifacts import ArtifactType
from ctd.metadata import sqlite_reading
from tests.soak.daemon import CTD
from tests.soak.history import History
from tests.soak.project import MAIN, SIDE, Project

# What holds a model or its id, or the past, differs from one run to the next; of an evaluation, the metrics count.
_OWN = (ArtifactType.MODEL, ArtifactType.MODEL_RUN, ArtifactType.PUSHED_MODEL, ArtifactType.TRANSFORM_CACHE)
_OWN += (ArtifactType.MODEL_BLESSING, ArtifactType.INFRA_BLESSING)
_LONG = 1800.0

Pieces = Mapping[str, str]


def run_from_scratch(project: Project, history: History) -> Pieces:
    """What a state directory made anew of the same inputs comes to."""
    state = project.root / "scratch/state"
    target = project.targets / "serving.yaml"
    target.write_text(target.read_text().replace("../disk/serving", "../scratch/serving"))
    project.module.write_text(project.module.read_text().replace("time.sleep(SECONDS)", "time.sleep(0)"))
    command = [CTD, "run", "--once", "--parallel", "3", "--log-format", "json", *project.flags(state)]
    with (project.root / "scratch.log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False, timeout=_LONG)
    if done.returncode != 0:
        history.violated("I6", f"the run from scratch ended with {done.returncode}: {project.root / 'scratch.log'}")
    return pieces(project, state)


def pieces(project: Project, state: Path) -> Pieces:
    """Digests of all results that the plan rests on, by node, piece, key and output."""
    executions = {e.id: e for e in sqlite_reading.read(state / "metadata.sqlite", sqlite_reading.executions)}
    found = {}
    for pipeline in (MAIN, SIDE):
        for decision in _plan(project, state, pipeline):
            place = f"{pipeline}/{decision['node']}/{decision['piece']}"
            if decision["action"] != "reuse":
                found[f"{place}/{decision['key']}"] = decision["action"]
                continue
            for output, made in executions[decision["execution"]].outputs.items():
                for number, artifact in enumerate(made):
                    if artifact.type is ArtifactType.EVALUATION:
                        said = _metrics(Path(artifact.uri))
                    else:
                        said = "made" if artifact.type in _OWN else artifact.digest
                    # Keys of later nodes have ids of models in them.
                    key = decision["key"] if artifact.span is not None else ""
                    found[f"{place}/{key}/{output}/{number}"] = said
    return found


def compare(soaked: Pieces, scratch: Pieces, history: History) -> int:
    """Say every difference; how many pieces were compared."""
    for name in sorted({*soaked, *scratch}):
        here, there = soaked.get(name, "nothing"), scratch.get(name, "nothing")
        if here != there:
            history.violated("I6", f"{name} is {here[:80]}, and from scratch {there[:80]}")
    return len(scratch)


def _plan(project: Project, state: Path, pipeline: str) -> list[Mapping[str, Any]]:
    command = [CTD, "plan", pipeline, "--json", *project.flags(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONG)
    decisions: list[Mapping[str, Any]] = json.loads(done.stdout)["decisions"]
    return decisions


def _metrics(folder: Path) -> str:
    rows = [r for r in json.loads((folder / "metrics.json").read_text()) if r["model"] != "baseline"]
    return json.dumps([[r["slice"], r["examples"], {n: round(v, 6) for n, v in r["metrics"].items()}] for r in rows])
