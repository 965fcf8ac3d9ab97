"""Which versions are wanted and what happens next: truth tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.errors import IllegalTransition
from ctd.serving.versions import (
    All,
    Latest,
    Load,
    Phase,
    Policy,
    Specific,
    Unload,
    Version,
    next_action,
    version_number,
    wanted,
)

S, L, A, U, E = Phase.START, Phase.LOADING, Phase.AVAILABLE, Phase.UNLOADING, Phase.END


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        pytest.param([], None, id="nothing known, nothing to do"),
        pytest.param([(1, S, True)], Load(1), id="load the first version"),
        pytest.param([(1, L, True)], None, id="wait while it loads"),
        pytest.param([(1, S, True), (2, S, True)], Load(2), id="of two new ones the newest first"),
        pytest.param([(1, A, False), (2, S, True)], Load(2), id="load the next before anything else"),
        pytest.param([(1, A, False), (2, L, True)], None, id="keep answering while the next one loads"),
        pytest.param([(1, A, False), (2, A, True)], Unload(1), id="the next one answers: let the old one go"),
        pytest.param([(1, A, False), (2, E, True)], None, id="the next one failed: keep the old one"),
        pytest.param([(1, A, False), (2, A, False), (3, L, True)], Unload(1), id="one spare version is enough"),
        pytest.param([(1, A, False)], Unload(1), id="nothing is wanted any more"),
        pytest.param([(1, A, False), (2, A, False)], Unload(1), id="unload in order"),
        pytest.param([(1, U, False), (2, A, True)], None, id="an unload takes its time"),
        pytest.param([(1, A, True), (2, A, True)], None, id="all is as wanted"),
        pytest.param([(1, S, False)], None, id="what is not wanted is not loaded"),
        pytest.param([(1, S, True), (2, A, False)], Load(1), id="roll back by loading first"),
    ],
)
def test_the_next_action_preserves_availability(
    versions: list[tuple[int, Phase, bool]], action: Load | Unload | None
) -> None:
    assert next_action([Version(number, phase, want) for number, phase, want in versions]) == action


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(list(Phase)), st.booleans()), unique_by=lambda entry: entry[0]
    )
)
def test_the_last_answering_version_goes_only_if_nothing_else_is_wanted(
    versions: list[tuple[int, Phase, bool]],
) -> None:
    known = [Version(number, phase, want) for number, phase, want in versions]
    action = next_action(known)
    answering = [version for version in known if version.phase is A]
    if isinstance(action, Unload) and len(answering) == 1:
        assert not any(version.wanted for version in known)


@pytest.mark.parametrize(
    ("policy", "found", "failed", "expected"),
    [
        pytest.param(Latest(), {1, 2, 3}, (), {3}, id="the latest"),
        pytest.param(Latest(2), {1, 2, 3}, (), {2, 3}, id="the two latest"),
        pytest.param(Latest(0), {1, 2}, (), {2}, id="none means one"),
        pytest.param(Latest(), set(), (), set(), id="an empty directory"),
        pytest.param(Latest(), {1, 2, 3}, (3,), {2}, id="a broken version does not count as the latest"),
        pytest.param(Latest(), {1}, (1,), set(), id="only a broken version"),
        pytest.param(All(), {1, 2, 3}, (), {1, 2, 3}, id="all"),
        pytest.param(Specific(frozenset({2, 9})), {1, 2, 3}, (), {2}, id="a specific version that is there"),
    ],
)
def test_a_policy_chooses_among_the_versions_on_disk(
    policy: Policy, found: set[int], failed: tuple[int, ...], expected: set[int]
) -> None:
    assert wanted(policy, found, failed) == expected


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("00000123", 123),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1.0", None),
        ("5.tmp", None),
        (".tmp-5", None),
        ("\u0661", None),
    ],
)
def test_only_digits_make_a_version(name: str, number: int | None) -> None:
    assert version_number(name) == number


def test_a_version_only_moves_down() -> None:
    version = Version(7).moved(L).moved(A).moved(U).moved(E, 3, "gone")
    assert (version.phase, version.code, version.message, version.failed) == (E, 3, "gone", True)
    with pytest.raises(IllegalTransition, match="version 7 is END and cannot become LOADING"):
        version.moved(L)
    with pytest.raises(IllegalTransition):
        Version(7, A).moved(A)


def test_loading_that_has_come_to_a_result_is_settled() -> None:
    assert [phase.settled for phase in (S, L, A, U, E)] == [False, False, True, True, True]
