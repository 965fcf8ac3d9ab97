"""Whoever cares about a path is told to look again, whatever happens there. Real folders, real events."""

import errno
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from watchdog.observers.inotify_c import InotifyFD

from ctd.core.timing import SystemClock
from ctd.watching.inotify import Folder, Identity, Inotify, Marks, Sign, identify
from ctd.watching.place import Place
from ctd.watching.polling import Polling, must_poll
from ctd.watching.watcher import Watcher

PATIENCE = 60.0
NEVER = timedelta(days=1)
DEBOUNCE = timedelta(milliseconds=10)
TAXI = frozenset({"taxi"})
UNSHARE = ("unshare", "--user", "--map-root-user")


def can_be_limited() -> bool:
    script = "echo 100 > /proc/sys/user/max_inotify_watches"
    command = [*UNSHARE, "sh", "-c", script]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


class LeapingClock(SystemClock):
    """The machine's clock, and a way to skip a pause."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class World:
    """A watcher, what it reported, and a bell.

    All events come from one queue of the kernel, so once the bell is heard everything before it was heard, too.
    """

    def __init__(self, folder: Path, **polling: object) -> None:
        self.folder = folder
        self.clock = LeapingClock()
        self.calls = 0
        self._said: set[str] = set()
        self._heard = threading.Condition()
        self._bell = folder / "bell"
        self._bell.mkdir()
        self._rung = 0
        settings = Polling(**{"every": NEVER, "verify": NEVER, "retry": NEVER, **polling})  # type: ignore[arg-type]
        self.watcher = Watcher(self._hear, self.clock, debounce=DEBOUNCE, most=10 * DEBOUNCE, polling=settings)
        self.watcher.watch({str(self._bell): frozenset({"bell"})})
        self.wait_for("bell")

    def _hear(self, names: frozenset[str]) -> None:
        with self._heard:
            self.calls += 1
            self._said |= names
            self._heard.notify_all()

    def watch(self, **interests: Path) -> None:
        """Watch one path for each name, and begin with a clean slate."""
        self.watch_all({str(path): frozenset({name}) for name, path in interests.items()})

    def watch_all(self, interests: dict[str, frozenset[str]]) -> None:
        self.watcher.watch({**interests, str(self._bell): frozenset({"bell"})})
        self.said()

    def wait_for(self, name: str) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: name in self._said, PATIENCE), f"{name} was not told to look"
            self._said.clear()

    def said(self, action: Callable[[], object] = lambda: None) -> set[str]:
        """Who was told to look again because of the action."""
        self.ring()
        with self._heard:
            self._said.clear()
        action()
        self.ring()
        with self._heard:
            return self._said - {"bell"}

    def most_calls(self, since: float) -> int:
        """However many events there were, and however slow this machine is."""
        return 5 + int((time.monotonic() - since) / DEBOUNCE.total_seconds())

    def ring(self) -> None:
        """A link is a single event: nothing of it is left over for the next ring."""
        with self._heard:
            self._said.discard("bell")
        self._rung += 1
        (self._bell / str(self._rung)).symlink_to("nowhere")
        with self._heard:
            assert self._heard.wait_for(lambda: "bell" in self._said, PATIENCE), "nothing is reported any more"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.watcher.stop()


@contextmanager
def a_world(folder: Path, **polling: object) -> Iterator[World]:
    world = World(folder, **polling)
    try:
        yield world
    finally:
        world.watcher.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "taxi"
    root.mkdir(parents=True)
    return root


def make(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    return file


# --- folders


def test_everybody_is_told_once_watching_begins(world: World, root: Path) -> None:
    world.watcher.watch({str(root): TAXI})
    world.wait_for("taxi")


def test_a_file_right_after_its_new_nested_folder_is_noticed_and_so_are_later_ones(world: World, root: Path) -> None:
    world.watch(taxi=root)
    deep = root / "2026" / "01" / "02"
    assert world.said(lambda: make(deep / "a.csv")) == {"taxi"}
    assert world.said(lambda: make(deep / "b.csv")) == {"taxi"}
    assert world.said(lambda: make(deep / "_SUCCESS")) == {"taxi"}


def test_nested_folders_made_by_another_process_are_all_watched(world: World, root: Path) -> None:
    world.watch(taxi=root)
    folders = [root / f"{a}" / f"{b}" / f"{c}" for a in range(5) for b in range(5) for c in range(5)]
    subprocess.run(["mkdir", "-p", *map(str, folders)], check=True)
    world.ring()
    deaf = [folder for folder in folders[::10] if world.said(lambda folder=folder: make(folder / "a")) != {"taxi"}]
    assert deaf == []


def test_a_folder_moved_in_with_its_content_is_watched(world: World, root: Path, tmp_path: Path) -> None:
    world.watch(taxi=root)
    make(tmp_path / "elsewhere" / "deep" / "a.csv")
    assert world.said(lambda: (tmp_path / "elsewhere").rename(root / "span-1")) == {"taxi"}
    assert world.said(lambda: make(root / "span-1" / "deep" / "b.csv")) == {"taxi"}


def test_a_span_renamed_from_its_temporary_name_is_noticed_and_still_watched(world: World, root: Path) -> None:
    make(root / ".tmp-1" / "deep" / "a.csv")
    world.watch(taxi=root)
    assert world.said(lambda: (root / ".tmp-1").rename(root / "span-1")) == {"taxi"}
    assert world.said(lambda: make(root / "span-1" / "deep" / "b.csv")) == {"taxi"}


def test_what_is_moved_away_is_no_longer_watched(world: World, root: Path, tmp_path: Path) -> None:
    make(root / "span-1" / "deep" / "a.csv")
    world.watch(taxi=root)
    assert world.said(lambda: (root / "span-1").rename(tmp_path / "archive")) == {"taxi"}
    assert world.said(lambda: make(tmp_path / "archive" / "deep" / "b.csv")) == set()


def test_moving_a_span_away_making_it_anew_and_deleting_both_ends_nothing(
    world: World, root: Path, tmp_path: Path
) -> None:
    world.watch(taxi=root)
    for _ in range(3):
        (root / "span-1").mkdir()
        world.ring()
        (root / "span-1").rename(tmp_path / "archive")
        world.ring()
        (root / "span-1").mkdir()
        world.ring()
        (root / "span-1").rmdir()
        world.ring()
        (tmp_path / "archive").rmdir()
        assert world.said(lambda: make(root / "span-2" / "a")) == {"taxi"}


def test_folders_that_swap_their_names_are_both_still_watched(world: World, root: Path) -> None:
    make(root / "a" / "deep" / "1")
    make(root / "b" / "deep" / "2")
    world.watch(taxi=root)
    (root / "a").rename(root / "c")
    (root / "b").rename(root / "a")
    (root / "c").rename(root / "b")
    world.ring()
    assert world.said(lambda: make(root / "a" / "deep" / "3")) == {"taxi"}
    assert world.said(lambda: make(root / "b" / "deep" / "4")) == {"taxi"}
    assert world.said(lambda: shutil.rmtree(root / "a")) == {"taxi"}
    assert world.said(lambda: make(root / "a" / "deep" / "5")) == {"taxi"}
    assert world.said(lambda: make(root / "a" / "deep" / "6")) == {"taxi"}


def test_deleting_and_touching_and_making_readable_are_changes(world: World, root: Path) -> None:
    file = make(root / "span-1" / "a.csv")
    world.watch(taxi=root)
    assert world.said(file.touch) == {"taxi"}
    assert world.said(lambda: file.chmod(0o600)) == {"taxi"}
    assert world.said(file.unlink) == {"taxi"}
    assert world.said((root / "span-1").rmdir) == {"taxi"}


def test_names_that_are_no_text_are_names_too(world: World, root: Path) -> None:
    world.watch(taxi=root)
    odd = os.fsencode(root) + b"/\xff\xfe\n"
    assert world.said(Path(os.fsdecode(odd)).mkdir) == {"taxi"}
    assert world.said(lambda: os.close(os.open(odd + b"/\x80", os.O_CREAT | os.O_WRONLY))) == {"taxi"}


# --- roots that come and go


def test_a_root_deleted_and_made_anew_is_watched_without_any_check(world: World, root: Path) -> None:
    make(root / "span-1" / "a.csv")
    world.watch(taxi=root)
    for number in range(3):
        assert world.said(lambda: shutil.rmtree(root)) == {"taxi"}
        assert world.said(root.mkdir) == {"taxi"}
        assert world.said(lambda number=number: make(root / f"span-{number}" / "a.csv")) == {"taxi"}
        assert world.said(lambda number=number: make(root / f"span-{number}" / "b.csv")) == {"taxi"}
    assert world.watcher.problems() == {}


def test_a_root_replaced_by_another_folder_is_watched_and_the_old_one_is_not(
    world: World, root: Path, tmp_path: Path
) -> None:
    world.watch(taxi=root)
    other = tmp_path / "other"
    other.mkdir()
    root.rename(tmp_path / "old")
    assert world.said(lambda: other.rename(root)) == {"taxi"}
    assert world.said(lambda: make(root / "a")) == {"taxi"}
    assert world.said(lambda: make(tmp_path / "old" / "a")) == set()


def test_a_root_whose_grandparent_is_replaced_is_found_by_the_check(world: World, tmp_path: Path) -> None:
    root = tmp_path / "top" / "data" / "taxi"
    root.mkdir(parents=True)
    world.watch(taxi=root)
    (tmp_path / "top").rename(tmp_path / "gone")
    root.mkdir(parents=True)
    assert world.said(world.watcher.check) == {"taxi"}
    assert world.said(lambda: make(root / "a")) == {"taxi"}
    assert world.said(lambda: make(tmp_path / "gone" / "data" / "taxi" / "a")) == set()
    assert world.said(world.watcher.check) == set()


def test_a_root_that_does_not_exist_is_watched_from_its_creation_on(world: World, tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet" / "there"
    world.watch(taxi=root)
    assert "does not exist yet" in world.watcher.problems()[str(root)]
    assert world.said(lambda: make(tmp_path / "unrelated")) == set()
    assert world.said(lambda: make(root / "span-1" / "a.csv")) == {"taxi"}
    assert world.watcher.problems() == {}
    assert world.said(lambda: make(root / "span-1" / "b.csv")) == {"taxi"}


def test_a_missing_root_is_found_step_by_step(world: World, tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet" / "there"
    world.watch(taxi=root)
    for folder in (tmp_path / "not", tmp_path / "not" / "yet", root):
        assert world.said(folder.mkdir) == {"taxi"}
    assert world.said(lambda: make(root / "a")) == {"taxi"}


def test_a_root_that_is_a_link_is_watched_and_so_is_its_swap(world: World, tmp_path: Path) -> None:
    old, new, root = tmp_path / "v1", tmp_path / "v2", tmp_path / "current"
    old.mkdir()
    new.mkdir()
    root.symlink_to("v1")
    world.watch(taxi=root)
    assert world.said(lambda: make(old / "span-1" / "a")) == {"taxi"}
    (tmp_path / ".next").symlink_to("v2")
    assert world.said(lambda: (tmp_path / ".next").rename(root)) == {"taxi"}
    assert world.said(lambda: make(new / "span-1" / "a")) == {"taxi"}
    assert world.said(lambda: make(old / "span-2" / "a")) == set()


def test_a_link_to_a_span_elsewhere_is_followed(world: World, root: Path, tmp_path: Path) -> None:
    make(tmp_path / "disk2" / "deep" / "a")
    world.watch(taxi=root)
    assert world.said(lambda: (root / "span-1").symlink_to(tmp_path / "disk2")) == {"taxi"}
    assert world.said(lambda: make(tmp_path / "disk2" / "deep" / "b")) == {"taxi"}


def test_links_in_a_circle_are_harmless(world: World, root: Path) -> None:
    make(root / "a" / "b" / "file")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "a" / "here").symlink_to(".")
    world.watch(taxi=root)
    assert world.said(lambda: make(root / "a" / "b" / "other")) == {"taxi"}
    assert world.said((root / "a" / "b" / "up").unlink) == {"taxi"}
    assert world.said(lambda: make(root / "a" / "b" / "third")) == {"taxi"}


# --- files


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return make(tmp_path / "code" / "taxi.py")


def test_a_file_written_in_place_replaced_deleted_and_made_anew_is_noticed_each_time(
    world: World, module: Path
) -> None:
    world.watch(taxi=module)
    for _ in range(2):
        assert world.said(lambda: module.write_text("in place")) == {"taxi"}
        draft = make(module.with_name("draft"))
        assert world.said(lambda draft=draft: draft.rename(module)) == {"taxi"}
        assert world.said(module.unlink) == {"taxi"}
        assert world.said(lambda: make(module)) == {"taxi"}


def test_what_else_lies_beside_a_file_concerns_nobody(world: World, module: Path) -> None:
    world.watch(taxi=module)
    others = ["4913", ".taxi.py.swp", "taxi.py~", "taxi.pyc", "other.py", "__pycache__/taxi.pyc"]
    assert world.said(lambda: [make(module.parent / other) for other in others]) == set()


def test_a_file_that_does_not_exist_yet_is_noticed_when_it_comes(world: World, tmp_path: Path) -> None:
    module = tmp_path / "later" / "taxi.py"
    world.watch(taxi=module)
    assert world.said(lambda: make(module)) == {"taxi"}
    assert world.said(lambda: module.write_text("again")) == {"taxi"}


def test_a_file_behind_links_is_noticed_when_any_of_them_is_swapped(world: World, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped."""
    mount = tmp_path / "mount"
    make(mount / "..1" / "taxi.py")
    make(mount / "..2" / "taxi.py")
    (mount / "..data").symlink_to("..1")
    (mount / "taxi.py").symlink_to("..data/taxi.py")
    world.watch(taxi=mount / "taxi.py")
    (mount / "..tmp").symlink_to("..2")
    assert world.said(lambda: (mount / "..tmp").rename(mount / "..data")) == {"taxi"}
    assert world.said(lambda: (mount / "..2" / "taxi.py").write_text("edited")) == {"taxi"}
    assert world.said(lambda: (mount / "..1" / "taxi.py").write_text("edited")) == set()


# --- who is told


def test_all_names_on_a_path_and_all_paths_over_a_file_are_told(world: World, root: Path) -> None:
    world.watch_all(
        {
            str(root): frozenset({"taxi", "fares"}),
            str(root.parent): frozenset({"all"}),
            str(root / "a"): frozenset({"one"}),
            str(root / "b"): frozenset({"other"}),
        }
    )
    assert world.said(lambda: make(root / "a")) == {"taxi", "fares", "all", "one"}


def test_what_is_no_longer_wanted_is_no_longer_watched(world: World, root: Path, module: Path) -> None:
    world.watch(taxi=root, code=module)
    world.watch(code=module)
    assert world.said(lambda: make(root / "a")) == set()
    assert world.said(lambda: module.write_text("x")) == {"code"}


def test_watching_the_same_again_tells_nobody_and_a_new_name_only_itself(world: World, root: Path) -> None:
    world.watch(taxi=root)
    same = {str(root): TAXI, str(world.folder / "bell"): frozenset({"bell"})}
    assert world.said(lambda: world.watcher.watch(same)) == set()
    assert world.said(lambda: world.watcher.watch({**same, str(root): frozenset({"taxi", "fares"})})) == {"fares"}


def test_reading_changes_nothing(world: World, root: Path, module: Path) -> None:
    file = make(root / "span-1" / "a.csv")
    world.watch(taxi=root, code=module)

    def read() -> None:
        for one in (file, module):
            one.read_bytes()
        for folder in (root, root / "span-1", module.parent):
            assert list(folder.iterdir())
        world.watcher.check()

    assert world.said(read) == set()


def test_whoever_writes_where_it_is_watched_is_told_a_bounded_number_of_times(world: World, root: Path) -> None:
    world.watch(taxi=root)
    before, began = world.calls, time.monotonic()
    for number in range(200):
        make(root / f"{number}" / "model")
    assert world.said() == set()
    assert world.calls - before <= world.most_calls(since=began)
    assert world.said() == set()


# --- when things go wrong


def test_a_storm_of_20000_files_is_reported_in_few_calls_and_little_memory(world: World, tmp_path: Path) -> None:
    roots = [tmp_path / f"root-{number}" for number in range(4)]
    for root in roots:
        root.mkdir()
    world.watch(**{root.name: root for root in roots})
    before, began, memory = world.calls, time.monotonic(), psutil.Process().memory_info().rss
    script = """
import pathlib, sys
for number in range(5000):
    for root in sys.argv[1:]:
        pathlib.Path(root, str(number)).write_text("x")
"""
    said = world.said(lambda: subprocess.run(["python3", "-c", script, *map(str, roots)], check=True))
    assert said == {root.name for root in roots}
    assert world.calls - before <= world.most_calls(since=began)
    assert psutil.Process().memory_info().rss - memory < 50e6


def test_when_the_kernel_drops_events_everybody_is_told_and_new_folders_are_watched(
    world: World, root: Path, module: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.watch(taxi=root, code=module)
    paused, go_on = threading.Event(), threading.Event()
    read = InotifyFD.read_events

    def read_late(reader: InotifyFD) -> object:
        events = read(reader)
        paused.set()
        assert go_on.wait(PATIENCE)
        return events

    monkeypatch.setattr(InotifyFD, "read_events", read_late)
    knocks = 0
    while not paused.wait(0.05):  # a read that began before still ends without a pause
        knocks += 1
        make(root / f"knock-{knocks}")
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most):
        make(root / f"{number}")
    make(root / "last" / "deep" / "a")
    with caplog.at_level(logging.WARNING, "ctd.watching"):
        go_on.set()
        world.wait_for("code")  # nothing happened there: only the loss concerns it
    monkeypatch.undo()
    assert "events were lost; watched anew" in {getattr(record, "because", "") for record in caplog.records}
    assert world.said(lambda: make(root / "last" / "deep" / "b")) == {"taxi"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_reader_is_replaced_by_the_check(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.watch(taxi=root)
    broken = threading.Event()

    def fail(_reader: InotifyFD, _event: object) -> None:
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(InotifyFD, "handle_event", fail)
    make(root / "a")
    assert broken.wait(PATIENCE)
    monkeypatch.undo()
    reader = world.watcher._inotify
    assert reader is not None
    reader._reader.join(PATIENCE)
    make(root / "span-1" / "unheard")
    world.watcher.check()
    world.wait_for("taxi")
    assert world.said(lambda: make(root / "span-1" / "b")) == {"taxi"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_is_called_again_after_the_check(tmp_path: Path, root: Path) -> None:
    calls: list[frozenset[str]] = []
    called = threading.Semaphore(0)

    def on_change(names: frozenset[str]) -> None:
        calls.append(names)
        called.release()
        if len(calls) == 1:
            raise RuntimeError("a bug")

    watcher = Watcher(on_change, SystemClock(), debounce=timedelta(0))
    try:
        watcher.watch({str(root): TAXI})
        assert called.acquire(timeout=PATIENCE)
        watcher._thread.join(PATIENCE)
        watcher.check()
        assert called.acquire(timeout=PATIENCE)
        assert calls == [TAXI, TAXI]
    finally:
        watcher.stop()


def test_a_root_with_more_folders_than_there_are_watches_is_polled_and_later_tried_again(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        (root / f"span-{number}").mkdir()
    small = tmp_path / "small"
    small.mkdir()
    with a_world(tmp_path, most_watches=40, every=timedelta(milliseconds=50), retry=timedelta(minutes=5)) as world:
        world.watcher.watch({str(small): frozenset({"small"}), str(root): TAXI})
        world.wait_for("taxi")
        world.wait_for("taxi")
        said = world.watcher.problems()[str(root)]
        assert said.startswith(
            "32 folders are watched, and ctd takes no more than 32 of the 40 that fs.inotify.max_user_watches allows"
        )
        assert str(small) not in world.watcher.problems()
        assert any("max_user_watches" in str(getattr(record, "because", "")) for record in caplog.records)
        make(small / "a")
        world.wait_for("small")
        for number in range(20):
            (root / f"span-{number}").rmdir()
        world.watcher.check()
        assert str(root) in world.watcher.problems()
        world.clock.ahead += 301
        world.watcher.check()
        assert world.watcher.problems() == {}


@pytest.mark.skipif(not can_be_limited(), reason="needs a user namespace with a limit of its own")
def test_what_the_kernel_refuses_is_told_with_the_limit_that_it_has(tmp_path: Path, root: Path) -> None:
    """In a container the limit may be lowered while ctd runs, and be another than the machine's."""
    for number in range(40):
        (root / f"span-{number}").mkdir()
    code = (
        "import os, sys; from pathlib import Path; from ctd.watching.inotify import Inotify, Marks, identify\n"
        "inotify = Inotify(Marks())\n"
        "Path('/proc/sys/user/max_inotify_watches').write_text('20')\n"
        "for folder in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    inotify.hold('p', str(folder), identify(str(folder)))\n"
    )
    command = [*UNSHARE, sys.executable, "-c", code, str(root)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr.splitlines()[-1]
    assert "20 folders are watched, and the kernel refused another: user.max_inotify_watches allows 20" in said


def test_a_root_that_outgrows_the_watches_while_watched_is_polled_from_then_on(tmp_path: Path, root: Path) -> None:
    with a_world(tmp_path, most_watches=40, every=timedelta(milliseconds=50)) as world:
        world.watch(taxi=root)
        assert world.watcher.problems() == {}
        for number in range(60):
            (root / f"span-{number}").mkdir()
        world.ring()
        assert "max_user_watches" in world.watcher.problems()[str(root)]
        world.wait_for("taxi")
        world.wait_for("taxi")


def test_without_an_inotify_instance_everything_is_polled_until_there_is_one(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_cls: type[InotifyFD]) -> int:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(InotifyFD, "_create_inotify_fd", classmethod(refuse))
    with a_world(tmp_path, every=timedelta(milliseconds=50), retry=timedelta(minutes=5)) as world:
        monkeypatch.undo()
        world.watcher.watch({str(root): TAXI, str(tmp_path / "bell"): frozenset({"bell"})})
        world.wait_for("taxi")
        world.wait_for("taxi")
        assert "max_user_instances" in world.watcher.problems()[str(root)]
        world.clock.ahead += 301
        world.watcher.check()
        assert world.watcher.problems() == {}
        assert world.said(lambda: make(root / "span-1" / "a")) == {"taxi"}


def test_a_folder_that_may_not_be_read_is_polled(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root nothing is forbidden, so the binding is made to answer as it does for others: with -1 and no error."""
    closed = root / "closed"
    closed.mkdir()
    add = InotifyFD.add_callback

    def refuse(reader: InotifyFD, path: bytes, *rest: object) -> object:
        return -1 if path == os.fsencode(closed) else add(reader, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(InotifyFD, "add_callback", refuse)
    with a_world(tmp_path, retry=timedelta(minutes=5)) as world:
        world.watch(taxi=root)
        assert f"{closed} cannot be read" in world.watcher.problems()[str(root)]
        assert world.said(lambda: make(root / "open" / "a")) == {"taxi"}
        monkeypatch.undo()
        assert world.said(lambda: closed.chmod(0o700)) == {"taxi"}
        assert world.said(lambda: make(closed / "a")) == {"taxi"}
        world.clock.ahead += 301
        world.watcher.check()
        assert world.watcher.problems() == {}


@pytest.mark.parametrize(
    ("filesystem", "options", "polled"),
    [
        ("nfs4", "rw,addr=10.0.0.1", "nfs4"),
        ("fuse.gcsfuse", "rw", "fuse.gcsfuse"),
        ("overlay", "ro,lowerdir=/a:/b", "overlay"),
        ("overlay", "rw,lowerdir=/a,upperdir=/c,workdir=/d", ""),
        ("ext4", "rw", ""),
    ],
)
def test_file_systems_that_keep_changes_to_themselves_are_known(
    tmp_path: Path, filesystem: str, options: str, polled: str
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
        f"28 27 0:44 / /data\\040lake rw,noatime shared:1 - {filesystem} server:/export {options}\n"
        "29 27 0:45 / /data\\040lake/local rw - ext4 /dev/vdb rw\n"
    )
    assert must_poll("/data lake", str(table)) == polled
    assert must_poll("/data lake/taxi/span-1", str(table)) == polled
    assert must_poll("/data lake/local/taxi", str(table)) == ""
    assert must_poll("/data lakes", str(table)) == ""


def test_a_root_on_a_network_is_polled(tmp_path: Path, root: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:44 / {root} rw - nfs4 server:/export rw\n")
    with a_world(tmp_path, mountinfo=str(table), every=timedelta(milliseconds=50)) as world:
        world.watch(taxi=root)
        world.wait_for("taxi")
        world.wait_for("taxi")
        assert world.watcher.problems() == {
            str(root): "nfs4 does not report changes made elsewhere; looked at every 50ms"
        }


def test_nothing_is_reported_and_no_thread_is_left_after_stop(tmp_path: Path, root: Path) -> None:
    before = set(threading.enumerate())
    files = len(list(Path("/proc/self/fd").iterdir()))
    world = World(tmp_path)
    world.watch(taxi=root)
    world.watcher.stop()
    calls = world.calls
    make(root / "a")
    world.watcher.check()
    world.watcher.watch({})
    # What a test before this one left may end meanwhile.
    assert not set(threading.enumerate()) - before
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    assert world.calls == calls


def test_every_watch_is_given_back(root: Path) -> None:
    marks = Marks()
    inotify = Inotify(marks)
    with a_world(root.parent) as world:
        for number in range(30):
            make(root / f"{number}" / "a")
        world.watch(taxi=root)
        own = world.watcher._inotify
        assert own is not None
        held = own.watches
        for number in range(15):
            shutil.rmtree(root / f"{number}")
        world.ring()
        assert own.watches == held - 15
        world.watch()
        assert own.watches == 2  # the bell and the entry that leads to it
        assert len(own._reader._watch_for_wd) == 2
    inotify.close()


# --- races, made to happen


class MeddlingInotify(Inotify):
    """Something changes at the very moment a folder begins to be watched."""

    meddle: Callable[[str], object] = staticmethod(lambda _path: None)

    def hold(self, place: str, path: str, identity: Identity, names: frozenset[bytes] | None = None) -> Folder:
        self.meddle(path)
        return super().hold(place, path, identity, names)


@pytest.fixture
def inotify() -> Iterator[MeddlingInotify]:
    inotify = MeddlingInotify(Marks())
    yield inotify
    inotify.close()


def watched(place: Place) -> set[Path]:
    return {Path(folder.path) for folder in place.folders if folder.names is None and folder.still_there()}


def test_a_path_that_appears_while_it_is_looked_for_is_watched(tmp_path: Path, inotify: MeddlingInotify) -> None:
    root = tmp_path / "not" / "yet" / "there"
    inotify.meddle = lambda _path: root.mkdir(parents=True, exist_ok=True)
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    assert watched(place) == {root}
    assert place.problem == ""
    assert place.sound(thoroughly=True)


def test_a_folder_made_while_its_parent_begins_to_be_watched_is_watched(root: Path, inotify: MeddlingInotify) -> None:
    (root / "span-1").mkdir()
    inotify.meddle = lambda path: (root / "span-1" / "deep").mkdir(exist_ok=True) if path.endswith("span-1") else None
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    assert watched(place) == {root, root / "span-1", root / "span-1" / "deep"}


def test_a_folder_that_goes_while_it_begins_to_be_watched_is_no_problem(root: Path, inotify: MeddlingInotify) -> None:
    (root / "span-1").mkdir()
    inotify.meddle = lambda path: shutil.rmtree(path) if path.endswith("span-1") else None
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    assert watched(place) == {root}
    assert place.problem == ""


def test_the_two_halves_of_a_rename_may_be_seen_apart(root: Path, inotify: MeddlingInotify) -> None:
    (root / "old" / "deep").mkdir(parents=True)
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    by_path = {folder.path: folder for folder in place.folders if folder.names is None}
    (root / "old").rename(root / "new")
    place.heed({by_path[str(root)]: Sign.ARRIVED})
    place.heed({by_path[str(root / "old")]: Sign.MOVED})
    assert watched(place) == {root, root / "new", root / "new" / "deep"}
    assert len(place.folders) == 4
    assert inotify.watches == 4


def test_a_root_that_ends_without_a_word_from_its_parent_is_looked_for(root: Path, inotify: MeddlingInotify) -> None:
    """As after unmounting: what was mounted on is there again."""
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    mounted = next(folder for folder in place.folders if folder.names is None)
    root.rename(root.with_name("unmounted"))
    (root / "beneath").mkdir(parents=True)
    place.heed({mounted: Sign.ENDED})
    assert watched(place) == {root, root / "beneath"}
    assert place.sound(thoroughly=True)


def test_a_folder_that_was_exchanged_unseen_is_found_by_the_thorough_look(root: Path, inotify: MeddlingInotify) -> None:
    """As after mounting over it: no event tells."""
    (root / "span-1").mkdir()
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    assert place.sound(thoroughly=True)
    (root / "span-1").rename(root.with_name("hidden"))
    (root / "span-1").mkdir()
    assert not place.sound(thoroughly=True)
    place.watch(inotify)
    assert place.sound(thoroughly=True)


def test_a_root_that_was_exchanged_unseen_is_found_by_the_quick_look(root: Path, inotify: MeddlingInotify) -> None:
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    assert place.sound(thoroughly=False)
    root.rename(root.with_name("hidden"))
    root.mkdir()
    assert not place.sound(thoroughly=False)


def test_a_folder_on_the_way_that_became_a_link_is_found_by_the_quick_look(
    root: Path, inotify: MeddlingInotify
) -> None:
    place = Place(str(root), TAXI, Polling())
    place.watch(inotify)
    root.parent.rename(root.parent.with_name("disk2"))
    root.parent.symlink_to("disk2")
    assert not place.sound(thoroughly=False)
    place.watch(inotify)
    assert place.sound(thoroughly=False)


def test_bursts_at_random_leave_the_whole_tree_watched(world: World, root: Path, tmp_path: Path) -> None:
    """Folders made, moved, swapped and deleted while the watches follow: afterwards each one is heard."""
    world.watch(taxi=root)
    script = """
import os, pathlib, random, shutil, sys
root, outside = map(pathlib.Path, sys.argv[1:3]); pick = random.Random(int(sys.argv[3]))
for number in range(200):
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())][:80]
    one, other = pick.choice(folders), pick.choice(folders)
    act = pick.random()
    if act < 0.6: (one / f"{number}" / "deep").mkdir(parents=True)
    elif act < 0.63 and one != root: shutil.rmtree(one)
    elif act < 0.66 and one != root: one.rename(outside / f"{number}")
    elif act < 0.8 and any(outside.iterdir()): pick.choice(sorted(outside.iterdir())).rename(one / f"in-{number}")
    elif one != root and one not in (other, *other.parents): one.rename(other / f"moved-{number}")
"""
    outside = tmp_path / "outside"
    outside.mkdir()
    for seed in range(2):
        subprocess.run(["python3", "-c", script, str(root), str(outside), str(seed)], check=True)
        world.ring()
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        sample = random.Random(seed).sample(folders, min(25, len(folders)))
        deaf = [path for path in sample if world.said(lambda path=path: make(path / "file")) != {"taxi"}]
        assert deaf == []
        strangers = [path for path in outside.rglob("*") if path.is_dir()]
        assert world.said(lambda strangers=strangers: [make(path / "file") for path in strangers]) == set()
        assert world.said(world.watcher.check) == set()


def test_a_rename_is_reported_by_its_own_event(tmp_path: Path, root: Path) -> None:
    heard = threading.Event()
    watcher = Watcher(lambda _names: heard.set(), SystemClock(), debounce=timedelta(0))
    try:
        watcher.watch({str(root): TAXI})
        assert heard.wait(PATIENCE)
        for number in range(100):
            draft = make(tmp_path / f"{number}")
            heard.clear()
            draft.rename(root / f"{number}")
            assert heard.wait(PATIENCE)
    finally:
        watcher.stop()


# --- which folders were touched


def touched(world: World, folder: Path, action: Callable[[], object]) -> bool:
    """Whether the action counts as something that happened in the folder, by the time somebody is told to look."""
    identity = identify(str(folder))
    assert identity is not None
    world.ring()
    before = world.watcher.touched.count()
    action()
    world.ring()
    last = world.watcher.touched.last(identity)
    return last is not None and last > before


def append(file: Path) -> None:
    with file.open("a") as writing:
        writing.write("y")


def test_what_is_written_in_place_touches_its_folder_and_no_other(world: World, root: Path) -> None:
    file, other = make(root / "1/a.csv"), make(root / "2/a.csv")
    world.watch(taxi=root)
    assert touched(world, root / "1", lambda: append(file))
    assert touched(world, root / "1", lambda: os.utime(file, (0, 0)))
    assert not touched(world, root / "1", lambda: append(other))
    assert not touched(world, root / "1", file.read_text)


def test_what_is_written_through_a_link_touches_the_folder_where_it_lies(
    world: World, root: Path, tmp_path: Path
) -> None:
    file = make(tmp_path / "disk2/1/a.csv")
    (root / "1").symlink_to(tmp_path / "disk2/1")
    world.watch(taxi=root)
    assert touched(world, root / "1", lambda: append(root / "1/a.csv"))
    assert touched(world, root / "1", lambda: append(file))


def test_a_folder_counts_as_touched_when_its_watch_begins_and_is_unknown_when_it_ends(
    world: World, root: Path, tmp_path: Path
) -> None:
    world.watch(taxi=root)
    assert touched(world, root, lambda: make(root / "1/a.csv"))
    identity = identify(str(root / "1"))
    assert identity is not None
    begun = world.watcher.touched.last(identity)
    assert begun is not None
    (root / "1").rename(tmp_path / "away")
    world.ring()
    assert world.watcher.touched.last(identity) is None
    (tmp_path / "away").rename(root / "1")
    world.ring()
    again = world.watcher.touched.last(identity)
    assert again is not None
    assert again > begun


def test_a_folder_that_two_watch_is_known_until_both_have_let_go(world: World, root: Path) -> None:
    make(root / "1/a.csv")
    identity = identify(str(root / "1"))
    assert identity is not None
    world.watch(taxi=root, other=root / "1")
    world.watch(taxi=root)
    assert world.watcher.touched.last(identity) is not None
    world.watch()
    assert world.watcher.touched.last(identity) is None


def test_where_changes_are_polled_for_nothing_is_told(tmp_path: Path, root: Path) -> None:
    for number in range(60):
        make(root / f"{number}/a.csv")
    with a_world(tmp_path, most_watches=40) as world:
        world.watch(taxi=root)
        identity = identify(str(root / "1"))
        assert identity is not None
        assert world.watcher.touched.last(identity) is None


def test_everything_counts_as_touched_after_events_were_lost(world: World, root: Path) -> None:
    make(root / "1/a.csv")
    world.watch(taxi=root)
    place = world.watcher._places[str(root)]
    lost = next(folder for folder in place.folders if folder.path == str(root))
    assert touched(world, root / "1", lambda: lost.marks.add(lost, Sign.LOST))
