"""Loading, swapping and lending versions, with models that are only names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import pytest

from ctd.serving.errors import Code, ServingError
from ctd.serving.model_state import ModelConfig
from ctd.serving.models import Models, Timing
from ctd.serving.versions import All, Phase, Specific

PATIENCE = 60.0


@dataclass
class Thing:
    """A loaded version."""

    number: int
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Workshop:
    """Loads things; versions can be broken or held up."""

    broken: set[int] = field(default_factory=set)
    tried: list[int] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    held: dict[int, threading.Event] = field(default_factory=dict)

    def load(self, _name: str, number: int, _path: Path) -> Thing:
        self.tried.append(number)
        if number in self.held:
            self.held[number].wait(PATIENCE)
        if number in self.broken:
            raise ServingError(Code.DATA_LOSS, f"version {number} is broken")
        self.things.append(Thing(number))
        return self.things[-1]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def serve(tmp_path: Path, workshop: Workshop) -> Iterator[Callable[..., Models[Thing]]]:
    started: list[Models[Thing]] = []

    def start(*configs: ModelConfig, retries: int = 0) -> Models[Thing]:
        chosen = configs or (ModelConfig("m", tmp_path),)
        timing = Timing(poll_seconds=0.01, max_retries=retries, retry_seconds=0.02, load_threads=2)
        models = Models(chosen, workshop.load, timing)
        models.start()
        started.append(models)
        return models

    yield start
    for event in workshop.held.values():
        event.set()
    for models in started:
        models.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, "it did not come to this in time"
        sleep(0.005)


def phases(models: Models[Thing], name: str = "m") -> dict[int, Phase]:
    try:
        return {version.number: version.phase for version in models.statuses(name)}
    except ServingError:
        return {}


def answering(models: Models[Thing]) -> int:
    with models.lease("m") as lease:
        return lease.servable.number


def test_the_newest_version_is_served(tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop) -> None:
    for name in ("1", "0002", "3.tmp", ".ctd-tmp-4", "readme"):
        (tmp_path / name).mkdir()
    models = serve()
    assert models.wait_settled(PATIENCE)
    assert answering(models) == 2
    assert workshop.tried == [2]


def test_a_new_version_takes_over_and_the_old_one_ends(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    (tmp_path / "2").mkdir()
    until(lambda: phases(models) == {1: Phase.END, 2: Phase.AVAILABLE})
    assert answering(models) == 2


def test_a_base_path_may_come_later(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    models = serve(ModelConfig("m", tmp_path / "later"))
    assert models.wait_settled(PATIENCE)
    with pytest.raises(ServingError, match="Could not find any versions of model m"):
        models.statuses("m")
    (tmp_path / "later" / "5").mkdir(parents=True)
    until(lambda: phases(models) == {5: Phase.AVAILABLE})


def test_a_base_path_that_goes_away_unloads_nothing(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    base = tmp_path / "base"
    (base / "1").mkdir(parents=True)
    models = serve(ModelConfig("m", base))
    models.wait_settled(PATIENCE)
    base.rename(tmp_path / "away")
    sleep(0.1)
    assert answering(models) == 1


def test_a_broken_version_leaves_the_old_one_answering(
    tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop
) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    workshop.broken = {2}
    (tmp_path / "2").mkdir()
    until(lambda: phases(models) == {1: Phase.AVAILABLE, 2: Phase.END})
    (ended,) = models.statuses("m", 2)
    assert (ended.code, ended.message) == (Code.DATA_LOSS, "version 2 is broken")
    sleep(0.1)
    assert workshop.tried == [1, 2], "a version that failed is not tried for ever"
    assert answering(models) == 1


def test_a_server_started_over_a_broken_newest_version_serves_the_one_before(
    tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop
) -> None:
    workshop.broken = {2}
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    models = serve()
    assert models.wait_settled(PATIENCE)
    assert answering(models) == 1


def test_a_failed_load_is_tried_again(tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop) -> None:
    workshop.broken = {1}
    (tmp_path / "1").mkdir()
    models = serve(retries=1000)
    until(lambda: len(workshop.tried) > 2)
    (loading,) = models.statuses("m")
    assert (loading.phase, loading.message) == (Phase.LOADING, "version 1 is broken")
    workshop.broken = set()
    until(lambda: phases(models) == {1: Phase.AVAILABLE})


def test_retries_come_to_an_end(tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop) -> None:
    workshop.broken = {1}
    (tmp_path / "1").mkdir()
    models = serve(retries=2)
    assert models.wait_settled(PATIENCE)
    assert workshop.tried == [1, 1, 1]
    assert phases(models) == {1: Phase.END}


def test_a_failed_version_that_was_removed_may_come_back(
    tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop
) -> None:
    workshop.broken = {1}
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    (tmp_path / "1").rename(tmp_path / ".quarantine-1")
    sleep(0.1)
    assert phases(models) == {1: Phase.END}, "its end is still told"
    workshop.broken = set()
    (tmp_path / ".quarantine-1").rename(tmp_path / "1")
    until(lambda: phases(models) == {1: Phase.AVAILABLE})


def test_removing_the_newest_version_rolls_back(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    (tmp_path / "2").rename(tmp_path / "trash")
    until(lambda: phases(models) == {1: Phase.AVAILABLE, 2: Phase.END})


def test_a_version_is_not_closed_while_a_request_uses_it(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    with models.lease("m") as lease:
        (tmp_path / "2").mkdir()
        until(lambda: phases(models) == {1: Phase.UNLOADING, 2: Phase.AVAILABLE})
        sleep(0.05)
        assert not lease.servable.closed
        assert answering(models) == 2
    until(lambda: phases(models)[1] is Phase.END)
    assert lease.servable.closed


def test_a_slow_load_stops_neither_looking_nor_other_models(
    tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop
) -> None:
    workshop.held[1] = threading.Event()
    for name in ("slow/1", "quick/2"):
        (tmp_path / name).mkdir(parents=True)
    models = serve(ModelConfig("m", tmp_path / "slow"), ModelConfig("q", tmp_path / "quick"))
    until(lambda: phases(models, "q") == {2: Phase.AVAILABLE})
    (tmp_path / "quick/3").mkdir()
    until(lambda: phases(models, "q") == {2: Phase.END, 3: Phase.AVAILABLE})
    assert phases(models) == {1: Phase.LOADING}
    assert not models.wait_settled(0.01)


def test_policies_may_keep_several_versions(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
    everything = serve(ModelConfig("m", tmp_path, All()))
    some = serve(ModelConfig("m", tmp_path, Specific(frozenset({1, 3}))))
    until(lambda: phases(everything) == dict.fromkeys((1, 2, 3), Phase.AVAILABLE))
    until(lambda: phases(some) == dict.fromkeys((1, 3), Phase.AVAILABLE))


def test_versions_are_found_by_number_and_label(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    models = serve(ModelConfig("m", tmp_path, All(), {"stable": 1}))
    until(lambda: phases(models) == dict.fromkeys((1, 2), Phase.AVAILABLE))
    with models.lease("m", version=2) as by_number, models.lease("m", label="stable") as by_label:
        assert (by_number.version, by_label.version) == (2, 1)


@pytest.mark.parametrize(
    ("wish", "code", "message"),
    [
        ({"name": ""}, Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"name": "x"}, Code.NOT_FOUND, r"Servable not found for request: Latest\(x\)"),
        ({"name": "m", "version": 7}, Code.NOT_FOUND, r"Servable not found for request: Specific\(m, 7\)"),
        ({"name": "m", "label": "x"}, Code.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
    ],
)
def test_a_wish_that_cannot_be_met_is_told_so(
    tmp_path: Path, serve: Callable[..., Models[Thing]], wish: dict[str, object], code: Code, message: str
) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    with pytest.raises(ServingError, match=message) as caught, models.lease(**wish):  # type: ignore[arg-type]
        pass
    assert caught.value.code is code


def test_a_new_configuration_replaces_the_old_one(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    for name in ("a/1", "b/1"):
        (tmp_path / name).mkdir(parents=True)
    models = serve(ModelConfig("m", tmp_path / "a"))
    models.wait_settled(PATIENCE)
    models.reconfigure([ModelConfig("b", tmp_path / "b")])
    until(lambda: phases(models, "b") == {1: Phase.AVAILABLE})
    until(lambda: phases(models) == {})


def test_a_label_waits_for_its_version(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    early = ModelConfig("m", tmp_path, labels={"canary": 2})
    with pytest.raises(ServingError, match="not currently available for inference"):
        models.reconfigure([early])
    models.reconfigure([early], early_labels=True)
    models.reconfigure([ModelConfig("m", tmp_path, labels={"stable": 1})])
    with models.lease("m", label="stable") as lease:
        assert lease.version == 1


def test_a_label_in_use_is_never_moved_to_a_version_that_does_not_answer(
    tmp_path: Path, serve: Callable[..., Models[Thing]]
) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    models.reconfigure([ModelConfig("m", tmp_path, labels={"stable": 1})])
    with pytest.raises(ServingError, match="assign label to version 2 of model m, which is not currently available"):
        models.reconfigure([ModelConfig("m", tmp_path, labels={"stable": 2})], early_labels=True)
    with models.lease("m", label="stable") as lease:
        assert lease.version == 1


def test_a_new_model_may_come_with_its_labels(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "b" / "1").mkdir(parents=True)
    models = serve(ModelConfig("m", tmp_path / "a"))
    models.wait_settled(PATIENCE)
    wish = [ModelConfig("m", tmp_path / "a"), ModelConfig("b", tmp_path / "b", labels={"stable": 1})]
    models.reconfigure(wish)
    assert models.wait_settled(PATIENCE)
    models.check_labels()
    models.reconfigure([*wish, ModelConfig("c", tmp_path / "b", labels={"stable": 9})])
    assert models.wait_settled(PATIENCE)
    with pytest.raises(ServingError, match="version 9 of model c"):
        models.check_labels()


def test_models_of_which_nothing_answers_are_told(
    tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop
) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "b" / "2").mkdir(parents=True)
    workshop.broken = {2}
    models = serve(*(ModelConfig(name, tmp_path / name) for name in ("a", "b", "c")))
    assert models.wait_settled(PATIENCE)
    assert models.failed_models() == ("b", "c")


def test_stopping_closes_everything(tmp_path: Path, serve: Callable[..., Models[Thing]], workshop: Workshop) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    models.stop()
    assert [thing.closed for thing in workshop.things] == [True]


def test_swaps_under_load_lose_no_request(tmp_path: Path, serve: Callable[..., Models[Thing]]) -> None:
    (tmp_path / "1").mkdir()
    models = serve()
    models.wait_settled(PATIENCE)
    done, problems = threading.Event(), []

    def hammer() -> None:
        try:
            while not done.is_set():
                with models.lease("m") as lease:
                    if lease.servable.closed:
                        problems.append("lent a closed version")
        except ServingError as error:
            problems.append(error.message)

    clients = [threading.Thread(target=hammer) for _ in range(3)]
    for client in clients:
        client.start()
    for number in range(2, 12):
        (tmp_path / str(number)).mkdir()
        until(lambda number=number: phases(models).get(number) is Phase.AVAILABLE)  # type: ignore[misc]
    done.set()
    for client in clients:
        client.join()
    assert problems == []
