"""What a worker can say without a disk: by its exit code, and in how many characters at most."""

from __future__ import annotations

import errno
import os

import pytest

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import ComponentFailed, MachineUnavailable, StorageUnavailable
from ctd.core.executions import Failure, Outcome, State
from ctd.engine.bounds import MESSAGE, bounded, cut
from ctd.engine.exits import CANNOT_WRITE, COULD_NOT_BEGIN, code_for, said_by

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EXDEV")


@pytest.mark.parametrize("base", [COULD_NOT_BEGIN, CANNOT_WRITE])
@pytest.mark.parametrize("name", ERRORS)
def test_an_exit_code_tells_which_error_it_was(base: int, name: str) -> None:
    code = code_for(base, OSError(getattr(errno, name), "no"))
    assert base <= code < 256
    said = said_by(code, "/state/staging/7", begun=base == CANNOT_WRITE)
    assert isinstance(said, (StorageUnavailable, MachineUnavailable))
    assert f"{os.strerror(getattr(errno, name))} ({name})" in said.message
    assert "/state/staging/7" in said.message


@pytest.mark.parametrize("base", [COULD_NOT_BEGIN, CANNOT_WRITE])
def test_an_error_without_a_number_of_its_own_is_still_the_machines(base: int) -> None:
    said = said_by(code_for(base, OSError(errno.EDOM, "no")), "/state/staging/7", begun=False)
    assert isinstance(said, StorageUnavailable)
    assert "its log" in said.message


@pytest.mark.parametrize("code", [-15, -9, 0, 1, 3, 70, 74, 127, 255])
def test_other_codes_tell_nothing(code: int) -> None:
    assert said_by(code, "/state/staging/7", begun=False) is None
    assert said_by(code, "/state/staging/7", begun=True) is None


def test_a_code_as_shells_have_it_is_no_word_of_ours_once_the_component_has_begun() -> None:
    assert all(said_by(128 + number, "/state/staging/7", begun=True) is None for number in range(1, 32))


def test_a_text_keeps_its_beginning_and_its_end() -> None:
    text = "begins " + "x" * 5_000_000 + " ends"
    assert cut("short") == "short"
    assert cut(text).startswith("begins ")
    assert cut(text).endswith(" ends")
    assert MESSAGE - 50 < len(cut(text)) <= MESSAGE


def test_an_outcome_keeps_data_whole_and_prose_within_bounds() -> None:
    sums = '{"a": "' + "0" * 100_000 + '"}'
    artifact = Artifact(ArtifactType.MODEL, "model", properties={"checksums": sums, "reason": "r" * 9_999, "n": 5})
    failure = Failure("K" * 5_000, "m" * 9_999, "h" * 9_999, "w" * 9_999, True)
    outcome = Outcome(State.FAILED, {"model": (artifact,)}, failure, damaged={1: "d" * 9_999})
    (kept,) = (made := bounded(outcome)).outputs["model"]
    assert kept.properties["checksums"] == sums
    assert len(str(kept.properties["reason"])) < 5_000
    assert kept.properties["n"] == 5
    assert made.failure is not None
    assert max(map(len, (made.failure.message, made.failure.hint, made.failure.where, made.damaged[1]))) < 5_000
    assert bounded(made) == made, "what is within bounds stays as it is"


def test_data_that_nobody_should_record_is_refused() -> None:
    artifact = Artifact(ArtifactType.MODEL, "model", properties={"rows": "[" + "1," * 1_000_000 + "1]"})
    with pytest.raises(ComponentFailed, match="property rows"):
        bounded(Outcome(State.SUCCEEDED, {"model": (artifact,)}))
