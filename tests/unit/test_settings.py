"""Flags before environment before defaults, and what child processes may see."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.errors import SpecError
from ctd.specs.settings import Settings, child_environment


def test_defaults_lie_beside_each_other_where_the_daemon_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.resolve({}, {})
    assert (settings.specs, settings.targets, settings.state) == (
        tmp_path / "specs",
        tmp_path / "deploy_targets",
        tmp_path / "state",
    )
    assert (settings.parallel, settings.warm, settings.rescan) == (2, True, timedelta(seconds=30))


def test_targets_and_state_lie_beside_the_specs_unless_said(tmp_path: Path) -> None:
    settings = Settings.resolve({"specs": str(tmp_path / "x/specs")}, {"CTD_STATE": "/var/lib/ctd"})
    assert (settings.targets, settings.state) == (tmp_path / "x/deploy_targets", Path("/var/lib/ctd"))


def test_a_flag_beats_the_environment_and_the_environment_the_default() -> None:
    environ = {"CTD_PARALLEL": "3", "CTD_WARM": "false", "CTD_RESCAN": "5s", "CTD_DEBOUNCE": ""}
    settings = Settings.resolve({"parallel": 5, "warm": None}, environ)
    assert (settings.parallel, settings.warm, settings.rescan) == (5, False, timedelta(seconds=5))
    assert settings.debounce == timedelta(milliseconds=50)


def test_pools_are_said_one_by_one_or_together_and_of_trainings_there_is_one_unless_said() -> None:
    assert Settings.resolve({"pools": ()}, {}).pools == {"train": 1}
    assert Settings.resolve({"pools": ("beam=2", "gpu=1")}, {"CTD_POOLS": "train=4"}).pools == {
        "train": 1, "beam": 2, "gpu": 1,
    }  # fmt: skip
    assert Settings.resolve({}, {"CTD_POOLS": "train=2, beam=1"}).pools == {"train": 2, "beam": 1}


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({}, {"CTD_PARALLEL": "many"}, "CTD_PARALLEL=many: "),
        ({}, {"CTD_RESCAN": "30"}, "CTD_RESCAN=30: '30' is not a duration"),
        ({"parallel": 0}, {"CTD_PARALLEL": "2"}, "--parallel=0: "),
        ({"log_format": "xml"}, {}, "--log-format=xml: "),
        ({"pools": ("train",)}, {}, "--pool=('train',): 'train' is not a pool with its limit"),
        ({}, {"CTD_POOLS": "train=0"}, "CTD_POOLS=train=0: "),
    ],
)
def test_a_wrong_value_names_its_flag_or_variable(flags: dict[str, object], environ: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        Settings.resolve(flags, environ)
    assert refused.value.message.startswith(said)
    assert refused.value.hint


def test_failpoints_count_in_tests_only() -> None:
    assert Settings.resolve({}, {"CTD_FAILPOINTS": "a=kill"}).failpoints == ""
    assert Settings.resolve({}, {"CTD_FAILPOINTS": "a=kill", "CTD_TEST": "1"}).failpoints == "a=kill"
    assert "CTD_FAILPOINTS" not in child_environment({"CTD_FAILPOINTS": "a=kill"})
    assert child_environment({"CTD_FAILPOINTS": "a=kill", "CTD_TEST": "1"})["CTD_FAILPOINTS"] == "a=kill"


def test_children_see_what_they_need_and_no_secrets() -> None:
    environ = {
        "PATH": "/bin",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "PYTHONPYCACHEPREFIX": "/pyc",
        "AWS_SECRET_ACCESS_KEY": "s",
        "CTD_TOKEN": "s",
        "NOTIFY_SOCKET": "/run/x",
        "TF_USE_LEGACY_KERAS": "1",
        "https_proxy": "http://user:secret@proxy",
    }
    assert child_environment(environ) == {
        "PATH": "/bin",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "PYTHONPYCACHEPREFIX": "/pyc",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    assert child_environment({"TF_CPP_MIN_LOG_LEVEL": "0"}) == {"TF_CPP_MIN_LOG_LEVEL": "0"}
