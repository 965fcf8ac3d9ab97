"""One wrong key hides no other: everything that is wrong with a file is told in one go, and nothing that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd.core.errors import SpecError
from ctd.specs.load import Loaded, load_folder
from ctd.watching import schedule

GOOD: dict[str, Any] = {
    "pipeline": "taxi",
    "module": "../taxi.py",
    "nodes": {
        "examples": {"kind": "example_gen", "input": "../data/{SPAN}"},
        "statistics": {"kind": "statistics_gen"},
        "schema": {"kind": "schema_gen"},
        "transform": {"kind": "transform", "window": 3},
        "trainer": {"kind": "trainer", "window": 3},
        "evaluator": {
            "kind": "evaluator",
            "label_key": "tips",
            "slices": [[], ["company"]],
            "metrics": {"AUC": {"at_least": 0.5, "slices": [["company"]]}},
        },
        "infra": {"kind": "infra_validator"},
        "pusher": {"kind": "pusher", "targets": ["serving"]},
    },
}
TARGET = {"target": "serving", "kind": "tf_serving", "path": "../serving/{pipeline}"}

# What can be wrong: a place, what is written there (None: the key is taken out), and what is then said.
FAULTS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "no metric": (("nodes", "evaluator", "metrics", "AUCC"), {"at_least": 0.5}, "there is no metric 'AUCC'"),
    "no node": (("nodes", "transform", "inputs"), {"examples": "exmples"}, "there is no node 'exmples'"),
    "no target": (("nodes", "pusher", "targets"), ["servin"], "there is no target 'servin'"),
    "no kind": (("nodes", "statistics", "kind"), "statistcs_gen", "unknown kind 'statistcs_gen'"),
    "no key": (("nodes", "trainer", "train_step"), 7, "train_step is no key"),
    "no number": (("nodes", "trainer", "train_steps"), "many", "train_steps must be a whole number"),
    "no duration": (("nodes", "trainer", "timeout"), 5, "timeout: 5 is not a duration"),
    "no window": (("nodes", "schema", "window"), 0, "nodes.schema.window must be greater than 0"),
    "no label": (("nodes", "evaluator", "label_key"), None, "lacks the key 'label_key'"),
    "no input": (("nodes", "examples", "input"), None, "lacks the key 'input'"),
    "no span": (("nodes", "examples", "input"), "../data/{SPN}", "{SPN}"),
    "a schedule": (
        ("nodes", "transform", "schedule"), {"cron": "61 * * * *"}, "it needs `when: schedule` too",
    ),
    "a priority": (("priority",), "high", "priority must be a whole number"),
    "a pipeline's key": (("modul",), "x.py", "modul is no key that a pipeline has"),
    "a missing maker": (("nodes", "infra"), None, "needs InfraBlessing as `infra_blessing`, and no node makes one"),
    "a pool": (("nodes", "infra", "pool"), "gpu", "nobody declared the pool 'gpu'"),
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "taxi.py").touch()
    (tmp_path / "deploy_targets/serving.yaml").write_text(json.dumps(TARGET))
    return tmp_path


def load(project: Path) -> Loaded:
    return load_folder(project / "specs", project / "deploy_targets", None, schedule.check, ())


def said(project: Path, pipeline: Any) -> list[str]:
    """All that is said of a pipeline. JSON is YAML, too."""
    (project / "specs/taxi.yaml").write_text(json.dumps(pipeline, indent=1))
    return [p.message for p in load(project).problems.get(str(project / "specs/taxi.yaml"), ())]


def with_faults(names: set[str]) -> Any:
    made = json.loads(json.dumps(GOOD))
    for name in sorted(names):
        place, value, _ = FAULTS[name]
        holder = made
        for step in place[:-1]:
            holder = holder.get(step, {})
        if value is None:
            holder.pop(place[-1], None)
        else:
            holder[place[-1]] = value
    return made


def test_the_good_one_is_good(project: Path) -> None:
    assert said(project, GOOD) == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone_is_told_and_nothing_else(project: Path, name: str) -> None:
    (only,) = said(project, with_faults({name}))
    assert FAULTS[name][2] in only


def test_a_wrong_metric_hides_no_missing_node_and_that_no_wrong_target(project: Path) -> None:
    found = said(project, with_faults({"no metric", "no node", "no target", "a missing maker"}))
    assert len(found) == 4


def test_everything_at_once(project: Path) -> None:
    everything = set(FAULTS) - {"no input", "no span", "a pool", "no kind"}
    found = said(project, with_faults(everything))
    for name in everything:
        assert any(FAULTS[name][2] in message for message in found), (name, found)
    assert len(found) == len(everything)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(sorted(FAULTS)), min_size=2, max_size=5))
def test_whatever_is_wrong_together_is_told_together_and_nothing_more(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    if {"no input", "no span"} <= names or {"a missing maker", "a pool"} <= names:
        return  # of two in the same place there is only one
    root = tmp_path_factory.mktemp("project")
    for folder in ("specs", "deploy_targets"):
        (root / folder).mkdir()
    (root / "taxi.py").touch()
    (root / "deploy_targets/serving.yaml").write_text(json.dumps(TARGET))
    found = said(root, with_faults(names))
    for name in names:
        assert any(FAULTS[name][2] in message for message in found), (name, found)
    assert len(found) == len(names), found


def test_what_yaml_does_not_allow_hides_nothing_of_what_it_says(project: Path) -> None:
    text = json.dumps(with_faults({"no metric", "no target"}), indent=1)
    (project / "specs/taxi.yaml").write_text(
        text.replace('"pipeline": "taxi",', '"pipeline": "taxi",\n "priority": 1,\n "priority": 2,')
    )
    found = [p.message for p in load(project).problems[str(project / "specs/taxi.yaml")]]
    assert [m.partition(",")[0] for m in found] == [
        "the key 'priority' is there twice", "there is no metric 'AUCC'", "there is no target 'servin'",
    ]  # fmt: skip


def test_two_faults_of_a_target_are_told_together_and_pushers_are_not_blamed(project: Path) -> None:
    wrong = {**TARGET, "keep": 0, "servr": "x", "canary": {"label": 7}}
    (project / "deploy_targets/serving.yaml").write_text(json.dumps(wrong))
    (warning,) = said(project, GOOD)
    assert warning == "the file of target 'serving' has problems: pusher cannot push there"
    assert len(load(project).problems[str(project / "deploy_targets/serving.yaml")]) >= 3


def test_a_file_with_problems_is_still_not_used(project: Path) -> None:
    said(project, with_faults({"no metric"}))
    loaded = load(project)
    assert loaded.pipelines == {}
    with pytest.raises(SpecError):
        raise SpecError("; ".join(str(p) for p in loaded.errors))
