"""A canary from the push to its end on real folders: what the daemon starts, shows and keeps, without processes."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ctd.api.lineage import LineageQuery, LineageView
from ctd.api.models import LiveView
from ctd.core.executions import State
from ctd.core.timing import SystemClock
from ctd.core.work import Request
from ctd.deploy.canary import End, Trial, Verdict
from ctd.deploy.labels import Labels
from ctd.deploy.model_config import Entry, ModelConfigFile
from ctd.deploy.target import Candidate
from ctd.deploy.tf_serving import Patience, TfServing
from ctd.deploy.versions import Versions
from ctd.specs.targets import TfServingTarget
from tests.contract.test_canary_target import Server
from tests.flow.bench import Bench

TARGET = TypeAdapter(TfServingTarget)
QUICK = Patience(load=timedelta(seconds=0.5), away=timedelta(seconds=0.3), lock=timedelta(seconds=0.5))
DECLARED = """\
target: serving
kind: tf_serving
path: ../serving/{pipeline}
server: {grpc: "127.0.0.1:1", config: ../models.config}
canary: {bake: 10m}
"""
WATCH = "serving.canary"


class Site(Bench):
    """A pipeline that pushes each model to a target with a canary. There is one slot for all work."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, parallel=1)
        (root / "deploy_targets/serving.yaml").write_text(DECLARED)
        self.span(1)
        self.train(100)
        self.start()
        self.rest()

    def train(self, steps: int) -> None:
        """Ask for another model."""
        spec = self.spec(window=1, steps=steps)
        spec.write_text(spec.read_text() + "  pusher: {kind: pusher, targets: [serving], require: []}\n")

    def rest(self) -> None:
        """Let everything be done that is due, but for the watch."""
        self.tick()
        while requests := [r for r in self.running() if r.piece != WATCH]:
            for request in requests:
                self._push(request) if request.piece == "serving" else self._succeed(request)
            self.tick()

    @property
    def labels(self) -> Labels:
        base = str(self.root / "serving/taxi")
        file = ModelConfigFile(self.root / "models.config", "taxi", base, lock=QUICK.lock, clock=SystemClock())
        return Labels(file, "canary")

    def _push(self, request: Request) -> None:
        target, (model,) = TARGET.validate_python(request.target), request.inputs["model"]
        base = Path(target.base_path("taxi"))
        place = TfServing(base, keep=3, server=Server(self.labels, base), labels=self.labels, patience=QUICK)
        pushed = place.push(Candidate(model.id, Path(model.uri), untried=request.untried))
        said: dict[str, Any] = {"pushed": 1, "pushed_destination": str(pushed.path), "pushed_version": pushed.version}
        said |= {"verified": 1, "model_id": model.id, "label": pushed.label, "trial": int(pushed.trial)}
        self._succeed(request, **said)

    def watching(self) -> Request:
        (request,) = (r for r in self.running() if r.piece == WATCH)
        return request

    def judge(self, end: End, reason: str) -> End:
        """The watch comes to its end; what came of it at the target."""
        request = self.watching()
        (pushed,) = request.inputs["pushed_model"]
        place, version = str(pushed.properties["pushed_destination"]), int(pushed.properties["pushed_version"])
        versions = Versions(Path(place).parent, keep=3, lock=QUICK.lock, clock=SystemClock())
        trial = Trial(versions, version, self.labels, lambda *_: None, SystemClock())
        said = trial.settle(Verdict(version, end, reason, {}))
        model = {"current_model_id": pushed.properties["model_id"]} if said.end is not End.OVERTAKEN else {}
        blessed = int(said.end is End.PROMOTED)
        self._succeed(request, blessed=blessed, reason=said.reason, pushed_destination=place, **model)
        return said.end

    def live(self) -> LiveView:
        """What `ctd status` says of the target."""
        (view,) = self.views().status().pipelines[0].live
        return view

    def stable(self) -> str:
        return (self.root / "serving/taxi" / str(self.labels.stable())).name


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_version_on_trial_is_shown_beside_the_live_one_with_its_progress(site: Site) -> None:
    assert (site.live().version, site.live().canary) == (1, "")
    site.train(101)
    site.rest()
    request = site.watching()
    site.executor.progress_said[request.execution_id] = "baking 3m of 10m: 900 requests, 0 errors"
    live = site.live()
    assert (live.version, live.verified, live.problem) == (1, True, "")
    model = request.inputs["pushed_model"][0].properties["model_id"]
    said = f"version 2 (model #{model}) on trial as canary: baking 3m of 10m: 900 requests, 0 errors"
    assert live.canary == said
    assert (
        site.of("pusher").splitlines()[-1].startswith("wait pusher serving version 2: running, attempt 1: version 2 ")
    )
    assert site.judge(End.PROMOTED, "promoted after 10m: 3000 requests, 0 errors") is End.PROMOTED
    site.rest()
    assert (site.live().version, site.live().canary, site.stable()) == (2, "", "2")


def test_a_live_version_that_goes_during_a_trial_is_told_and_comes_back_after_it(site: Site) -> None:
    site.train(101)
    site.rest()
    shutil.rmtree(site.root / "serving/taxi/1")
    site.tick()
    trouble = "version 1 is gone, the live one, with version 2 on trial"
    assert site.live().problem == trouble
    assert "ctd rollback taxi serving" in str(site.views().status().model_dump())
    site.judge(End.ROLLED_BACK, "rolled back after 9s: drift")
    site.rest()
    assert (site.live().version, site.live().problem) == (3, "")
    assert (site.root / "serving/taxi/3/data").is_file()


@pytest.mark.parametrize("text", [None, "", "model_config_list { config { name: 'other' base_path: '/o' } }\n"])
def test_a_config_file_that_no_longer_names_the_live_version_is_written_again(site: Site, text: str | None) -> None:
    place = site.root / "models.config"
    place.unlink() if text is None else place.write_text(text)
    site.rest()
    assert (site.live().version, site.live().problem, site.stable()) == (1, "", "1")
    assert "'other'" in place.read_text() or not text, "what is not ours stays"


def test_a_config_file_that_no_longer_names_the_live_version_is_told_where_nothing_is_to_be_repaired(
    site: Site,
) -> None:
    (site.root / "deploy_targets/serving.yaml").write_text(f"{DECLARED}on_damage: report\n")
    (site.root / "models.config").write_text("")
    site.rest()
    assert site.live().problem.endswith("models.config names no `stable` version of taxi any more")
    assert (site.root / "models.config").read_text() == ""


def test_what_people_make_stable_in_the_config_file_stays(site: Site) -> None:
    site.train(101)
    site.rest()
    site.judge(End.PROMOTED, "promoted")
    site.rest()
    site.labels.file.write(Entry(frozenset({1, 2}), {"stable": 1, "canary": 1}))
    site.rest()
    assert (site.live().problem, site.stable()) == ("", "1")


def test_a_watch_takes_no_slot_from_others(site: Site) -> None:
    site.train(101)
    site.rest()
    watch = site.watching()
    site.span(2)
    site.tick()
    assert [r.node for r in site.running()] == ["pusher", "examples"], "one slot, and the watch has none"
    site.rest()
    assert [r.execution_id for r in site.running()] == [watch.execution_id]
    assert len(site.executions("trainer", State.SUCCEEDED)) == 3
    assert "waits for the verdict on version 2" in site.of("pusher")
    site.judge(End.PROMOTED, "promoted")
    site.rest()
    assert site.watching().inputs["pushed_model"][0].properties["pushed_version"] == 3


def test_what_is_taken_back_is_told_and_the_live_version_stays_whole(site: Site) -> None:
    site.train(101)
    site.rest()
    site.judge(End.ROLLED_BACK, "version 2 rolled back after 9s: drift: ...")
    site.rest()
    live = site.live()
    assert (live.version, live.hold, live.problem) == (1, "version 2 rolled back after 9s: drift: ...", "")
    assert [p.name for p in sorted((site.root / "serving/taxi").glob("[0-9]*"))] == ["1"]
    site.kill()
    site.start().rest()
    assert (len(site.executions("pusher")), site.live().hold) == (3, live.hold)
    found = site.views().lineage("taxi", LineageQuery(version="2"))
    assert isinstance(found, LineageView)
    assert [v.reason for v in found.verdicts] == ["version 2 rolled back after 9s: drift: ..."]
    site.check()


def test_a_daemon_that_dies_during_the_trial_watches_anew(site: Site) -> None:
    site.train(101)
    site.rest()
    site.watching()
    site.kill()
    site.start().rest()
    assert "was abandoned when the daemon died: once more" in site.of("pusher")
    site.judge(End.PROMOTED, "promoted")
    site.rest()
    ended = [e for e in site.executions("pusher") if e.piece == WATCH]
    assert [e.state for e in ended] == [State.ABANDONED, State.SUCCEEDED]
    assert (site.live().version, site.stable()) == (2, "2")


def test_a_rollback_during_the_trial_ends_it(site: Site) -> None:
    site.train(101)
    site.rest()
    site.ask("rollback", target="serving")
    site.rest()
    assert (site.stable(), site.labels.on_trial()) == ("3", None)
    assert site.judge(End.PROMOTED, "promoted") is End.OVERTAKEN
    site.rest()
    assert (site.live().version, site.stable()) == (3, "3")
    assert site.live().hold.startswith("rolled back to version 1 by ana")
    assert len([e for e in site.executions("pusher") if e.piece == WATCH]) == 1
