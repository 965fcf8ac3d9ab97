"""Versions of a hub that are to be in a repository too: said in the target, made up for later, shown on the card."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from planning_world import Bench
from pydantic import TypeAdapter, ValidationError

from ctd.deploy.huggingface import front_matter
from ctd.planning.decisions import Reuse, Run
from ctd.specs.load import load_target
from ctd.specs.targets import AnyTarget, HubTarget, HuggingFace

PLACE, ADDRESS = "https://hub.test/acme/taxi", "hub.test:443"


def pushing(**more: Any) -> Bench:
    bench = Bench(**more)
    bench.arrive(1)
    bench.settle()
    return bench


def decided(bench: Bench) -> Run | Reuse:
    (found,) = (d for d in bench.plan().decisions if d.subject.node == "pusher")
    assert isinstance(found, Run | Reuse)
    return found


def uploading(**more: Any) -> Bench:
    return pushing(uploads={"serving": PLACE}, servers={"serving": ADDRESS}, **more)


def test_what_was_uploaded_stays_as_it_is() -> None:
    bench = uploading()
    bench.now += timedelta(days=1)
    assert isinstance(decided(bench), Reuse)
    assert bench.plan().targets["serving"].trouble == ""


def test_while_the_repository_is_away_no_execution_tries_it_and_then_one_does() -> None:
    bench = uploading(silent={"serving"})
    for _ in range(10):
        bench.now += timedelta(minutes=10)
        made = decided(bench)
        assert isinstance(made, Reuse)
        assert made.because.endswith(f"pushed, not uploaded: nobody answers at {ADDRESS}")
    bench.silent.clear()
    run = decided(bench)
    assert isinstance(run, Run)
    assert run.because.endswith(f"but {PLACE} has not got it: uploaded again")
    bench.finish(bench.start(run))
    bench.now += timedelta(days=1)
    assert isinstance(decided(bench), Reuse)


def test_a_repository_that_refuses_is_tried_ever_more_rarely_and_its_reason_told() -> None:
    bench = uploading(silent={"serving"})
    pauses, last = [], bench.now
    for _ in range(5):
        bench.silent.clear()
        while not isinstance(run := decided(bench), Run):
            assert bench.plan().targets["serving"].trouble == "pushed, not uploaded: 401"
            bench.now += timedelta(seconds=30)
        bench.silent.add("serving")
        pauses.append(round((bench.now - last) / timedelta(minutes=1)))
        last = bench.now
        bench.finish(bench.start(run))
    assert pauses == [0, 1, 2, 5, 10]


def test_a_repository_that_is_named_later_gets_the_version_that_is_live() -> None:
    bench = pushing()
    assert isinstance(decided(bench), Reuse)
    bench.uploads, bench.servers = {"serving": PLACE}, {"serving": ADDRESS}
    bench.now += timedelta(minutes=2)
    run = decided(bench)
    assert isinstance(run, Run)
    bench.finish(bench.start(run))
    assert isinstance(decided(bench), Reuse)


def target(**more: Any) -> HubTarget:
    said = {"target": "hub", "kind": "hub", "path": "/hub", "huggingface": {"repo": "acme/{pipeline}", **more}}
    made: Any = TypeAdapter(AnyTarget).validate_python(said)
    assert isinstance(made, HubTarget)
    return made


def test_where_it_goes_is_no_part_of_what_a_version_is() -> None:
    one, other = target(), target(endpoint="http://127.0.0.1:8080", license="mit")
    assert one.settings("taxi") == other.settings("taxi")
    assert one.huggingface
    assert other.huggingface
    assert (one.huggingface.place("taxi"), one.huggingface.address) == (
        "https://huggingface.co/acme/taxi",
        "huggingface.co:443",
    )
    assert (other.huggingface.place("taxi"), other.huggingface.address) == (
        "http://127.0.0.1:8080/acme/taxi",
        "127.0.0.1:8080",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"repo": "taxi"},
        {"repo": "a/{span}"},
        {"endpoint": "https://me:secret@hub"},
        {"endpoint": "hub"},
        {"endpoint": "http://hub:99999"},
        {"token": "x"},
    ],
    ids=["no owner", "another word", "a password in it", "no scheme", "no such port", "the token itself"],
)
def test_what_is_no_repository_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        target(**wrong)


def test_the_file_of_the_token_is_beside_the_target(tmp_path: Path) -> None:
    text = "target: hub\nkind: hub\npath: hub\nhuggingface: {repo: acme/taxi, token_file: ../secrets/hub}\n"
    (tmp_path / "hub.yaml").write_text(text)
    made = load_target(tmp_path / "hub.yaml")
    assert isinstance(made, HubTarget)
    assert made.huggingface
    assert Path(made.huggingface.token_file or "").resolve() == (tmp_path / "../secrets/hub").resolve()


def test_the_front_matter_is_yaml_with_what_the_hub_reads() -> None:
    rows = [
        {"model": "candidate", "slice": [], "metrics": {"AUC": 0.96, "Plot": None}},
        {"model": "candidate", "slice": [["hour", 3]], "metrics": {"AUC": 0.5}},
        {"model": "baseline", "slice": [], "metrics": {"AUC": 0.1}},
    ]
    said = {"handle": "ctd/taxi", "pipeline": "taxi", "spans": [{"span": 7}], "metrics": rows}
    where = HuggingFace(repo="acme/taxi", license="apache-2.0", task="tabular-classification", tags=('tips: "big"',))
    text = front_matter(where, said)
    assert text.startswith("---\n")
    assert text.endswith("\n---\n\n")
    found = yaml.safe_load(text.split("---\n")[1])
    (entry,) = found.pop("model-index")
    assert found == {
        "license": "apache-2.0",
        "library_name": "tensorflow",
        "pipeline_tag": "tabular-classification",
        "tags": ["tensorflow", "saved-model", "ctd", 'tips: "big"'],
        "metrics": ["AUC"],
    }
    (result,) = entry["results"]
    assert result["task"] == {"type": "tabular-classification"}
    assert result["metrics"] == [{"type": "AUC", "name": "AUC", "value": 0.96}]
    bare = yaml.safe_load(front_matter(HuggingFace(repo="a/b"), {**said, "metrics": []}).split("---\n")[1])
    assert bare == {"library_name": "tensorflow", "tags": ["tensorflow", "saved-model", "ctd"]}
