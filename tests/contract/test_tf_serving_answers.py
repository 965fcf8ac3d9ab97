"""A pushed version and the server behind the target: what it says, what it answers, and what comes of that."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ctd.core import failpoints
from ctd.core.errors import ComponentFailed, OtherAnswers, TargetUnavailable
from ctd.deploy.target import Answers, Candidate, Phase, VersionState
from ctd.deploy.tf_serving import Patience
from tests.contract.target_bench import OTHERS, Server, Watching, content, hidden, model_in, push, versions


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Candidate]:
    return partial(model_in, tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "taxi"


def test_the_push_waits_until_the_server_answers_with_the_version(base: Path, model: Callable[..., Candidate]) -> None:
    server = Server(VersionState(Phase.UNKNOWN), VersionState(Phase.LOADING), VersionState(Phase.AVAILABLE))
    pushed = push(base, model(1), server=server, patience=Patience())
    assert (pushed.verified, server.asked) == (True, [1, 1, 1])


def test_a_server_that_is_away_does_not_fail_the_push(base: Path, model: Callable[..., Candidate]) -> None:
    pushed = push(base, model(1), server=Server(None))
    assert (pushed.verified, versions(base)) == (False, ["1"])
    assert "does not answer" in pushed.note


def test_no_old_version_goes_before_the_new_one_is_known_to_serve(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1), keep=1)
    push(base, model(2), keep=1, server=Server(None))
    assert versions(base) == ["1", "2"]
    push(base, model(2), keep=1, server=Server(VersionState(Phase.AVAILABLE)))
    assert versions(base) == ["2"]


def test_a_version_that_the_server_cannot_load_is_hidden_from_it(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1))
    with pytest.raises(ComponentFailed, match="no such op") as failed:
        push(base, model(2), server=Server(VersionState(Phase.END, "no such op: Frobnicate")))
    assert versions(base) == ["1"]
    assert hidden(base) == [".ctd-quarantine-2"]
    assert ".ctd-quarantine-2" in failed.value.hint
    assert push(base, model(3)).version == 3


def test_a_server_that_keeps_failing_to_load_counts_as_refusing(base: Path, model: Callable[..., Candidate]) -> None:
    with pytest.raises(ComponentFailed, match="bad checkpoint"):
        push(base, model(1), server=Server(VersionState(Phase.LOADING, "bad checkpoint")))
    assert versions(base) == []


def test_a_server_that_does_not_get_to_the_version_is_asked_again_later(
    base: Path, model: Callable[..., Candidate]
) -> None:
    with pytest.raises(TargetUnavailable, match="version 1 is unknown"):
        push(base, model(1), server=Server(VersionState(Phase.UNKNOWN)))
    assert push(base, model(1), server=Server(VersionState(Phase.AVAILABLE))).version == 1


def test_a_version_that_gave_way_to_another_is_not_taken_for_a_failure(
    base: Path, model: Callable[..., Candidate]
) -> None:
    pushed = push(base, model(1), server=Server(VersionState(Phase.END)))
    assert (pushed.verified, versions(base)) == (False, ["1"])
    assert "another version" in pushed.note


def test_answers_that_are_not_the_models_quarantine_what_the_server_took_from_here(
    base: Path, model: Callable[..., Candidate]
) -> None:
    push(base, model(1), server=Watching(base, Answers()))
    with pytest.raises(ComponentFailed, match=r"0\.5 apart") as failed:
        push(base, model(2), server=Watching(base, OTHERS))
    assert (versions(base), hidden(base)) == (["1"], [".ctd-quarantine-2"])
    assert ".ctd-quarantine-2" in failed.value.hint
    assert push(base, model(3), server=Watching(base, Answers())).version == 3


def test_a_server_that_watches_another_folder_condemns_no_model(base: Path, model: Callable[..., Candidate]) -> None:
    elsewhere = base.parent / "clicks"
    push(elsewhere, model(7))
    with pytest.raises(OtherAnswers, match=r"not what was pushed: output 'p' is 0\.7") as failed:
        push(base, model(1), server=Watching(elsewhere, OTHERS))
    assert "`path:`" in failed.value.hint
    assert "`server.model`" in failed.value.hint
    assert (versions(base), hidden(base)) == (["1"], [])
    pushed = push(base, model(1), server=Watching(base, Answers()))
    assert (pushed.version, pushed.fresh, pushed.verified) == (1, False, True), "verified as soon as that is mended"


def test_nor_does_one_that_gets_the_same_number_from_another_folder_just_now(
    base: Path, model: Callable[..., Candidate]
) -> None:
    """Two pipelines that push at the same hour have the same numbers: only that it stays shows that it is not ours."""
    elsewhere = base.parent / "clicks"

    class Confused(Watching):
        def state(self, version: int) -> VersionState:
            found = super().state(version)
            (elsewhere / str(version)).mkdir(parents=True, exist_ok=True)
            return found

    with pytest.raises(OtherAnswers):
        push(base, model(1), server=Confused(elsewhere, OTHERS))
    assert (versions(base), hidden(base)) == (["1"], [])
    assert content(base / "1") == content(model(1).path)
    assert push(base, model(1), server=Watching(base, Answers())).fresh is False


def test_a_version_that_was_pushed_before_is_not_condemned_by_what_is_answered_later(
    base: Path, model: Callable[..., Candidate]
) -> None:
    push(base, model(1), server=Server(None))
    with pytest.raises(OtherAnswers):
        push(base, model(1), server=Watching(base, OTHERS))
    assert (versions(base), hidden(base)) == (["1"], [])


def test_a_push_is_not_verified_while_requests_without_a_number_get_another_version(
    base: Path, model: Callable[..., Candidate]
) -> None:
    said = Answers(missing="requests that name no version are answered by version 9")
    with pytest.raises(OtherAnswers, match="answered by version 9"):
        push(base, model(1), keep=1, server=Watching(base, said))
    assert versions(base) == ["1"]


def test_a_server_that_dies_while_it_is_asked_leaves_the_push_unverified(
    base: Path, model: Callable[..., Candidate]
) -> None:
    class Dying(Watching):
        def answers(self, version: int) -> Answers:
            raise TargetUnavailable(f"connection lost while asking for version {version}")

    pushed = push(base, model(1), server=Dying(base, Answers()))
    assert (pushed.verified, pushed.note) == (
        False,
        "pushed, not verified: connection lost while asking for version 1",
    )


def test_killed_between_hiding_and_judging_the_number_is_not_given_again(
    base: Path, model: Callable[..., Candidate]
) -> None:
    class Killing(Watching):
        def state(self, version: int) -> VersionState:
            if version in self.asked[1:]:
                raise failpoints.FailpointHit("hidden")
            return super().state(version)

    with pytest.raises(failpoints.FailpointHit):
        push(base, model(1), server=Killing(base, OTHERS))
    assert hidden(base) == [".ctd-quarantine-1"]
    assert push(base, model(1), server=Watching(base, Answers())).version == 2
