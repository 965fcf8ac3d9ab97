"""Which patterns would read the same files, and which would read what ctd itself writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.overlaps import reaches_into, shared_path
from ctd.core.spans import PatternError, SpanPattern
from ctd.specs.load import load_folder, load_pipeline
from ctd.specs.problems import SpecProblems


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ("/data/{SPAN}", "/data/{YYYY}{MM}{DD}", "/data/11111111"),
        ("/data/{SPAN}", "/data/{SPAN:3}", "/data/111"),
        ("/data/{SPAN}", "/data/{SPAN}/v{VERSION}", "/data/1/v1"),
        ("/data/{SPAN}/*.csv", "/data/{SPAN}/a*", "/data/1/a.csv"),
        ("/data/{SPAN}", "/data/{SPAN}/*.csv", "/data/1/x.csv"),
        ("/data/*/{SPAN}", "/data/clicks/{SPAN}", "/data/clicks/1"),
        ("/data/{SPAN}", "/data/2024", "/data/2024"),
        ("/data/{YYYY}/{MM}/{DD}", "/data/{SPAN}/11/11", "/data/1111/11/11"),
        ("/data/{SPAN}", "/data/{SPAN}/country=US/*.csv", "/data/1/country=US/x.csv"),
        ("/data/{SPAN}", "/data/{SPAN}/country=*/day=3", "/data/1/country=x/day=3"),
        ("/data/year={YYYY}/month={MM}", "/data/year={SPAN}/month=2", "/data/year=1111/month=2"),
    ],
)
def test_an_overlap_is_proven_by_a_path_that_both_would_read(one: str, other: str, path: str) -> None:
    assert shared_path(SpanPattern.parse(one), SpanPattern.parse(other)) == path
    assert shared_path(SpanPattern.parse(other), SpanPattern.parse(one)) == path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/data/{SPAN}", "/clicks/{SPAN}"),
        ("/data/{SPAN:3}", "/data/{SPAN:4}"),
        ("/data/{SPAN}/trips/*.csv", "/data/{SPAN}/weather/*.csv"),
        ("/data/{SPAN}/*.csv", "/data/{SPAN}/*.parquet"),
        ("/data/{SPAN}", "/data/{SPAN}/trips/*.csv"),
        ("/data/{SPAN}/country=US", "/data/{SPAN}/country=DE"),
        ("/data/{YYYY}-{MM}-{DD}", "/data/{SPAN}"),
        ("/data/{YYYY}{MM}{DD}", "/data/{SPAN:4}0230"),
        ("/data/day{SPAN}", "/data/night{SPAN}"),
        ("/data/{SPAN}", "/data/.{SPAN}"),
    ],
)
def test_patterns_side_by_side_are_no_overlap(one: str, other: str) -> None:
    assert shared_path(SpanPattern.parse(one), SpanPattern.parse(other)) is None
    assert shared_path(SpanPattern.parse(other), SpanPattern.parse(one)) is None


LEVELS = st.sampled_from(["a", "1", "*", "?", "{SPAN}", "{SPAN:2}", "a{SPAN}", "{SPAN}*", "?{VERSION}", "{VERSION:3}"])
PATTERNS = st.lists(LEVELS, min_size=1, max_size=3).map("/".join)


@given(one=PATTERNS, other=PATTERNS)
def test_whatever_is_said_to_be_shared_is_read_by_both(one: str, other: str) -> None:
    try:
        patterns = [SpanPattern.parse(f"/d/{text}") for text in (one, other)]
    except PatternError:
        return
    path = shared_path(patterns[0], patterns[1])
    assert (path is None) == (shared_path(patterns[1], patterns[0]) is None)
    if one == other:
        assert path is not None, "a pattern shares everything with itself"
    for pattern in patterns if path else ():
        above = [name for name in pattern.base.split("/") if name]
        names = [name for name in (path or "").split("/") if name][len(above) :]
        assert all(c.match(n) is not None for c, n in zip(pattern.components, names, strict=False))


HEAD = "pipeline: p\nnodes:\n  a: {kind: example_gen, input: ../data/{SPAN}}\n"


def test_an_overlap_of_two_nodes_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        HEAD.replace("{SPAN}}", '"}').replace("../data/", '"../data/{SPAN}')
        + ('  b:\n    kind: example_gen\n    input: "../data/{YYYY}{MM}{DD}"\n')
    )
    with pytest.raises(SpecProblems) as refused:
        load_pipeline(file)
    (problem,) = refused.value.problems
    assert problem.line == 6
    assert f"nodes.b and nodes.a would both read {tmp_path.parent}/data/11111111" in problem.message
    assert "or write the same path in both" in problem.hint


def test_the_same_pattern_in_two_nodes_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        'pipeline: p\nnodes:\n  a: {kind: example_gen, input: "../data/{SPAN}"}\n'
        '  b: {kind: example_gen, input: "../data/{SPAN}", complete: {quiet: 5s}}\n'
    )
    assert set(load_pipeline(file).inputs) == {"a", "b"}


@pytest.mark.parametrize(
    ("read", "folder"),
    [
        ("../state/artifacts/p/a/examples/{SPAN}", "ctd's own state directory"),
        ("../*/{SPAN}", "ctd's own state directory"),
        ("../serving/p/{SPAN}", "the versions on target serving"),
        ("p{SPAN}.yaml", "ctd's own specs"),
        ("../deploy_targets/{SPAN}", "ctd's own targets"),
    ],
)
def test_an_input_that_would_read_what_ctd_writes_is_refused(tmp_path: Path, read: str, folder: str) -> None:
    for name in ("specs", "deploy_targets"):
        (tmp_path / name).mkdir()
    (tmp_path / "deploy_targets/serving.yaml").write_text(
        "target: serving\nkind: tf_serving\npath: ../serving/{pipeline}\n"
    )
    spec = tmp_path / "specs/p.yaml"
    spec.write_text(f'pipeline: p\nnodes:\n  a:\n    kind: example_gen\n    input: "{read}"\n')
    loaded = load_folder(tmp_path / "specs", tmp_path / "deploy_targets", tmp_path / "state")
    problems = loaded.problems[str(spec)]
    assert [p.line for p in problems if f"nodes.a would read {folder}" in p.message] == [5]
    assert not loaded.pipelines


@pytest.mark.parametrize("text", ["/srv/data/{SPAN}", "/srv/{SPAN}", "/srv/stat{SPAN}/x", "/srv/state{SPAN}"])
def test_data_beside_ctds_own_folders_is_fine(text: str) -> None:
    assert not reaches_into(SpanPattern.parse(text), "/srv/state")
