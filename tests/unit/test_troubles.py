"""What is wrong with the daemon's own means is told from its beginning to its end, and once."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctd.core.failpoints import arm
from ctd.core.timing import ManualClock
from ctd.core.troubles import Fault, TroubleKind
from ctd.daemon.troubles import Troubles, status_line
from ctd.observability import Event
from ctd.storage import disk

FULL = Fault(TroubleKind.DISK_FULL, "/state", "5 bytes are free on its disk", "Free space on it.")


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_a_trouble_lasts_from_when_it_was_found_whatever_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    troubles = Troubles(clock)
    began = clock.now()
    with caplog.at_level(logging.INFO, "ctd"):
        for free in range(5):
            troubles.note("disk", replace(FULL, because=f"{free} bytes are free on its disk"))
            clock.forward(seconds=1)
        troubles.note("start", FULL)
        (told,) = troubles.now()
        assert (told.since, told.fault.because) == (began, "4 bytes are free on its disk")
        troubles.note("disk", None)
        assert troubles.now(), "the start still has it"
        troubles.note("start", None)
    assert troubles.now() == ()
    assert caplog.messages == [Event.TROUBLE.value, Event.TROUBLE_OVER.value]


def test_systemd_hears_the_trouble_that_has_lasted_longest() -> None:
    clock = ManualClock()
    troubles = Troubles(clock)
    assert status_line(troubles.now(), "3 pipelines") == "3 pipelines"
    troubles.note("disk", FULL)
    clock.forward(seconds=1)
    troubles.note("store", Fault(TroubleKind.STORE_GONE, "/state/metadata.sqlite", "it is gone"))
    said = "TROUBLE since 2026-01-01 00:00:00 UTC: /state: disk full: 5 bytes are free on its disk (and 1 more)"
    assert status_line(troubles.now(), "3 pipelines") == said


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        ("ENOSPC", TroubleKind.DISK_FULL, "Free space"),
        ("EDQUOT", TroubleKind.DISK_FULL, "quota"),
        ("EROFS", TroubleKind.READ_ONLY, "Mount"),
        ("EACCES", TroubleKind.NOT_WRITABLE, "right to write"),
        ("EIO", TroubleKind.NOT_WRITABLE, "dmesg"),
        ("EMFILE", TroubleKind.NOT_WRITABLE, "ulimit -n"),
        ("EFBIG", TroubleKind.NOT_WRITABLE, "ulimit -f"),
        ("ESTALE", TroubleKind.GONE, "mount"),
    ],
)
@pytest.mark.parametrize(("point", "look"), [("disk.look", disk.at_a_glance), ("disk.probe", disk.by_writing)])
@pytest.mark.usefixtures("disarmed")
def test_what_the_system_says_of_a_disk_is_named_with_what_to_do(
    tmp_path: Path, point: str, look: disk.Look, error: str, kind: TroubleKind, hint: str
) -> None:
    arm(f"{point}=err({error})")
    found = look(tmp_path)
    assert found is not None
    assert (found.kind, found.place) == (kind, str(tmp_path))
    assert os.strerror(getattr(errno, error)) in found.because
    assert hint in found.hint


def test_a_folder_that_is_well_leaves_nothing_to_say_and_is_left_as_it_was(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    assert disk.first([tmp_path], disk.at_a_glance, disk.by_writing, disk.by_reading, disk.by_rights) is None
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == before


def test_a_disk_that_says_it_is_full_is_asked_to_prove_it(tmp_path: Path, disarmed: None) -> None:
    said = replace(FULL, place=str(tmp_path))
    assert not disk.confirmed(said), "as much as it wants can be written"
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk.LEAST - 1, most[1]))
    try:
        assert disk.confirmed(said), "only a part can be"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert disk.confirmed(replace(said, kind=TroubleKind.READ_ONLY))


@pytest.mark.parametrize("look", [disk.at_a_glance, disk.by_writing, disk.by_reading])
def test_a_folder_that_is_gone_or_none_is_missed(tmp_path: Path, look: disk.Look) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path / "gone", file):
        found = look(place)
        assert found is not None
        assert found.kind is TroubleKind.GONE


def test_a_link_to_nowhere_or_in_a_circle_is_no_folder(tmp_path: Path) -> None:
    nowhere, circle = tmp_path / "nowhere", tmp_path / "circle"
    nowhere.symlink_to(tmp_path / "gone")
    circle.symlink_to(circle)
    for place, kind in ((nowhere, TroubleKind.GONE), (circle, TroubleKind.NOT_WRITABLE)):
        assert disk.there(place), "it is looked at"
        found = disk.at_a_glance(place)
        assert found is not None
        assert (found.kind, found.place) == (kind, str(place))


def test_what_cannot_be_listed_is_no_matter_of_writing(tmp_path: Path, disarmed: None) -> None:
    arm("disk.list=err(EIO)")
    found = disk.by_reading(tmp_path)
    assert found is not None
    assert found.kind is TroubleKind.ARTIFACTS
