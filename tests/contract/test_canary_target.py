"""A target whose versions have labels: what is live, what is on trial beside it, and how a trial ends, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core import failpoints
from ctd.core.errors import ComponentFailed, TargetUnavailable
from ctd.core.timing import SystemClock
from ctd.deploy.canary import End, Trial, Verdict
from ctd.deploy.labels import Labels
from ctd.deploy.model_config import Entry, ModelConfigFile
from ctd.deploy.target import Answers, Candidate, Phase, Pushed, VersionState
from ctd.deploy.tf_serving import Patience, TfServing
from ctd.deploy.versions import Versions

LOCK = timedelta(seconds=0.5)
QUICK = Patience(load=timedelta(seconds=0.5), away=timedelta(seconds=0.3), lock=LOCK)


@dataclass
class Server:
    """A server that obeys the config file at once, as far as it can, and takes no label for what is not loaded."""

    labels: Labels
    base: Path
    broken: set[int] = field(default_factory=set)
    away: bool = False
    blind: bool = False  # it does not read its file again
    name = "the server"

    def state(self, version: int) -> VersionState:
        self._there()
        if version in self.broken:
            return VersionState(Phase.END, "INVALID_ARGUMENT: no model")
        return VersionState(Phase.AVAILABLE if version in self.loaded() else Phase.UNKNOWN)

    def answers(self, version: int) -> Answers:
        self._there()
        return Answers("" if version in self.loaded() else "nothing")

    def labelled(self, label: str) -> int | None:
        self._there()
        version = self.labels.file.read().labels.get(label)
        return version if version in self.loaded() else None

    def loaded(self) -> set[int]:
        wanted = set() if self.blind else self.labels.file.read().versions
        return {number for number in wanted if (self.base / str(number)).is_dir()}

    def _there(self) -> None:
        if self.away:
            raise TargetUnavailable("nobody listens")


@dataclass
class Place:
    """A base path, its config file and its server."""

    root: Path
    keep: int = 3

    def __post_init__(self) -> None:
        self.base = self.root / "serving" / "taxi"
        self.labels = Labels(config_file(self.root), "canary")
        self.server = Server(self.labels, self.base)
        self.before: set[int] = set()  # versions that answered, and may be let go only when the server knows

    def push(self, number: int, *, untried: bool = False, text: str = "") -> Pushed:
        target = TfServing(self.base, keep=self.keep, server=self.server, labels=self.labels, patience=QUICK)
        return target.push(candidate(self.root, number, untried=untried, text=text))

    def trial(self, version: int) -> Trial:
        versions = Versions(self.base, keep=self.keep, lock=LOCK, clock=SystemClock())
        return Trial(versions, version, self.labels, self.confirm, SystemClock())

    def confirm(self, label: str, version: int) -> None:
        """What the server does when it has read its file: by no label may it meet a version that is gone."""
        assert self.server.labelled(label) == version
        labels = self.labels.file.read().labels
        assert self.server.loaded() >= {*labels.values(), *self.before}
        self.before = set()

    @property
    def entry(self) -> tuple[list[int], dict[str, int]]:
        entry = self.labels.file.read()
        return sorted(entry.versions), dict(entry.labels)

    @property
    def versions(self) -> list[int]:
        return sorted(int(p.name) for p in self.base.iterdir() if p.name.isdigit())


def config_file(root: Path) -> ModelConfigFile:
    return ModelConfigFile(
        root / "models.config", "taxi", str(root / "serving" / "taxi"), lock=LOCK, clock=SystemClock()
    )


def candidate(root: Path, number: int, *, untried: bool = False, text: str = "") -> Candidate:
    path = root / f"model-{number}"
    path.mkdir(exist_ok=True)
    (path / "saved_model.pb").write_text(text or str(number))
    return Candidate(number, path, untried=untried)


def verdict(version: int, end: End) -> Verdict:
    return Verdict(version, end, f"{end.value} after 10m", {"requests": 7})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Version 1 is live, 2 is on trial."""
    made = Place(tmp_path)
    made.push(1)
    made.push(2)
    return made


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_the_first_version_is_live_at_once_under_both_labels(tmp_path: Path) -> None:
    place = Place(tmp_path)
    pushed = place.push(1)
    assert (pushed.label, pushed.trial, pushed.verified) == ("stable", False, True)
    assert place.entry == ([1], {"stable": 1, "canary": 1})


def test_the_next_version_is_tried_beside_it(place: Place) -> None:
    assert place.entry == ([1, 2], {"stable": 1, "canary": 2})
    again = place.push(2)
    assert (again.version, again.fresh, again.label, again.trial) == (2, False, "canary", True)
    assert place.server.loaded() == {1, 2}


def test_without_a_canary_what_is_pushed_becomes_stable(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.labels = place.server.labels = Labels(config_file(tmp_path))
    for number in (1, 2):
        assert place.push(number).label == "stable"
    assert place.entry == ([2], {"stable": 2})


@pytest.mark.parametrize("how", ["asked for", "the same model", "the same content"])
def test_what_was_live_before_or_was_decided_by_people_is_not_tried(place: Place, how: str) -> None:
    number, text = {"asked for": (9, ""), "the same model": (1, ""), "the same content": (9, "1")}[how]
    pushed = place.push(number, untried=how == "asked for", text=text)
    assert (pushed.version, pushed.trial) == (3, False)
    assert place.entry == ([3], {"stable": 3, "canary": 3})


def test_another_model_with_the_id_of_the_live_one_is_tried(place: Place) -> None:
    """Ids begin anew when the metadata store is lost."""
    pushed = place.push(1, text="of a new store")
    assert (pushed.version, pushed.trial) == (3, True)
    assert place.entry == ([1, 3], {"stable": 1, "canary": 3})


def test_keep_never_removes_what_is_live_or_has_a_label(tmp_path: Path) -> None:
    place = Place(tmp_path, keep=1)
    place.push(1)
    gold = {"stable": 1, "canary": 1, "gold": 1}
    place.labels.file.write(Entry(frozenset({1}), gold))
    place.push(2)
    assert (place.versions, place.entry) == ([1, 2], ([1, 2], {**gold, "canary": 2}))
    place.trial(2).settle(verdict(2, End.PROMOTED))
    place.push(3)
    place.trial(3).settle(verdict(3, End.PROMOTED))
    place.push(4)
    assert place.entry == ([1, 3, 4], {"gold": 1, "stable": 3, "canary": 4}), "a label of other people's"
    assert place.versions == [1, 3, 4]
    place.labels.file.write(Entry(frozenset({3, 4}), {"stable": 3, "canary": 4}))
    place.trial(4).settle(verdict(4, End.PROMOTED))
    place.push(4)
    assert place.versions == [4]


def test_a_promoted_version_takes_over(place: Place) -> None:
    place.before = {1, 2}
    assert place.trial(2).settle(verdict(2, End.PROMOTED)).end is End.PROMOTED
    assert place.entry == ([2], {"stable": 2, "canary": 2})
    assert (place.versions, place.before) == ([1, 2], set())


def test_a_version_that_is_taken_back_goes_out_of_sight_and_its_number_is_never_used_again(place: Place) -> None:
    place.before = {1, 2}
    place.trial(2).settle(verdict(2, End.ROLLED_BACK))
    assert place.before == set()
    assert place.entry == ([1], {"stable": 1, "canary": 1})
    assert place.versions == [1]
    assert (place.base / ".ctd-quarantine-2" / "saved_model.pb").is_file()
    assert place.push(1).version == 1, "what is live stays as it is"
    assert (place.push(3).version, place.entry) == (3, ([1, 3], {"stable": 1, "canary": 3}))


def test_a_version_that_does_not_load_never_gets_a_label(place: Place) -> None:
    place.trial(2).settle(verdict(2, End.PROMOTED))
    place.server.broken = {3}
    with pytest.raises(ComponentFailed, match="cannot load version 3"):
        place.push(3)
    assert (place.entry, place.versions) == (([2], {"stable": 2, "canary": 2}), [1, 2])


def test_no_label_is_set_before_the_server_has_loaded_the_version(place: Place) -> None:
    place.trial(2).settle(verdict(2, End.PROMOTED))
    place.server.away = True
    pushed = place.push(3)
    assert (pushed.verified, pushed.trial) == (False, True)
    assert place.entry == ([2, 3], {"stable": 2, "canary": 2})
    place.server.away = False
    assert place.push(3).verified
    assert place.entry == ([2, 3], {"stable": 2, "canary": 3})


def test_a_server_that_does_not_read_its_file_again_is_told_apart(place: Place) -> None:
    place.server.blind = True
    with pytest.raises(TargetUnavailable) as raised:
        place.push(3)
    assert "--model_config_file_poll_wait_seconds=1" in raised.value.hint
    assert place.entry[1] == {"stable": 1, "canary": 2}


@pytest.mark.parametrize("end", [End.PROMOTED, End.ROLLED_BACK])
def test_a_trial_that_somebody_else_ended_is_ended(place: Place, end: End) -> None:
    place.push(1, untried=True)
    assert place.entry == ([3], {"stable": 3, "canary": 3})
    assert place.trial(2).settle(verdict(2, end)).end is End.OVERTAKEN
    assert (place.entry, place.versions) == (([3], {"stable": 3, "canary": 3}), [1, 2, 3])


def test_a_newer_version_on_trial_overtakes_an_older_one(place: Place) -> None:
    place.push(3)
    assert place.entry == ([1, 3], {"stable": 1, "canary": 3})
    ended = place.trial(2).settle(verdict(2, End.PROMOTED))
    assert (ended.end, ended.reason) == (End.OVERTAKEN, "version 2 is no longer on trial: version 3 is instead")
    assert (place.entry, place.versions) == (([1, 3], {"stable": 1, "canary": 3}), [1, 2, 3])


def test_people_may_end_a_trial_in_the_file(place: Place) -> None:
    place.labels.file.write(Entry(frozenset({1}), {"stable": 1, "canary": 1}))
    ended = place.trial(2).settle(verdict(2, End.PROMOTED))
    assert (ended.end, place.versions) == (End.ROLLED_BACK, [1])
    assert "its label was taken away in" in ended.reason
    place.push(3)
    place.labels.file.write(Entry(frozenset({3}), {"stable": 3, "canary": 3}))
    assert place.trial(3).settle(verdict(3, End.ROLLED_BACK)).end is End.PROMOTED
    assert place.entry == ([3], {"stable": 3, "canary": 3})


POINTS = ["canary.decided", "canary.unlabelled"]


@pytest.mark.parametrize(
    ("end", "point"), [(End.PROMOTED, POINTS[0]), (End.ROLLED_BACK, POINTS[0]), (End.ROLLED_BACK, POINTS[1])]
)
def test_a_crash_while_a_trial_ends_changes_neither_verdict_nor_numbers(place: Place, end: End, point: str) -> None:
    failpoints.arm(f"{point}=raise")
    with pytest.raises(failpoints.FailpointHit):
        place.trial(2).settle(verdict(2, end))
    failpoints.arm("")
    known = place.trial(2).known()
    assert known == verdict(2, end)
    assert place.trial(2).settle(known) == verdict(2, end)
    again = place.trial(2).settle(known)
    assert again == verdict(2, end)
    expected = ([2], {"stable": 2, "canary": 2}) if end is End.PROMOTED else ([1], {"stable": 1, "canary": 1})
    assert (place.entry, 2 in place.versions) == (expected, end is End.PROMOTED)


def test_a_verdict_found_after_a_crash_yields_to_what_people_decided_since(place: Place) -> None:
    failpoints.arm("canary.decided=raise")
    with pytest.raises(failpoints.FailpointHit):
        place.trial(2).settle(verdict(2, End.PROMOTED))
    failpoints.arm("")
    place.push(1, untried=True)
    known = place.trial(2).known()
    assert known
    assert place.trial(2).settle(known).end is End.OVERTAKEN
    assert place.entry == ([3], {"stable": 3, "canary": 3})
    assert place.trial(3).known() is None


PUSH = """
import sys
from pathlib import Path
from tests.contract.test_canary_target import Place
from ctd.core import failpoints
failpoints.arm(sys.argv[2])
Place(Path(sys.argv[1])).push(2)
"""


@pytest.mark.parametrize("point", ["push.alloc", "push.before_rename", "push.after_rename"])
def test_a_push_killed_at_any_moment_is_gone_on_with(tmp_path: Path, point: str, killed: Callable[..., int]) -> None:
    place = Place(tmp_path)
    place.push(1)
    assert killed(PUSH, tmp_path, f"{point}=kill") == -signal.SIGKILL
    assert place.entry[1] == {"stable": 1, "canary": 1}
    pushed = place.push(2)
    assert place.entry == ([1, pushed.version], {"stable": 1, "canary": pushed.version})


@pytest.fixture
def killed() -> Callable[..., int]:
    def run(program: str, *arguments: object) -> int:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, check=False, env={**os.environ}, cwd=Path(__file__).parents[2]).returncode

    return run
