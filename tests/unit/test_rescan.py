"""A rescan that looks only at folders finds what one that looks at everything finds."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd.core.completeness import CompleteRule, Manifest, Marker, Quiet, Renamed
from ctd.core.spans import SpanPattern
from ctd.core.timing import ManualClock
from ctd.storage.listing import Listing, SpanLister
from ctd.storage.split_listing import SplitLister, lister_of
from ctd.storage.unchanged import EVERYTHING_WITHIN, Identity, Turns

MARKER = Marker("_SUCCESS")
# A file system may count time in steps of the kernel's clock, up to 10 ms.
TICK = 0.011
NONE = -1  # spans that are looked at every time because they are the newest


@dataclass
class Silent:
    """Folders are watched, but no event ever arrives; or what a test says of them."""

    told: set[Identity] = field(default_factory=set)
    unwatched: set[Identity] = field(default_factory=set)
    at: int = 0

    def count(self) -> int:
        return self.at

    def last(self, folder: Identity) -> int | None:
        if folder in self.unwatched:
            return None
        return self.at if folder in self.told else 0

    def tell(self, folder: Path) -> None:
        facts = folder.stat()
        self.at += 1
        self.told.add((facts.st_dev, facts.st_ino))


class Rescans:
    """A lister that has looked often enough to rely on folders, and a clock."""

    def __init__(self, pattern: Path | str, rule: CompleteRule = MARKER, newest: int = NONE) -> None:
        self.pattern = SpanPattern.parse(str(pattern))
        self.rule = rule
        self.clock = ManualClock()
        self.touches = Silent()
        self.lister = SpanLister(self.pattern, rule, self.clock, self.touches, newest)

    def settle(self) -> Listing:
        """Look until nothing is young any more."""
        for _ in range(3):
            self.clock.forward(seconds=3)
            listing = self.lister.scan()
        time.sleep(TICK)
        return listing

    def agrees(self) -> bool:
        """Whether a look says what a first look by someone else says."""
        return plain(self.lister.scan()) == plain(SpanLister(self.pattern, self.rule, self.clock).scan())


def plain(listing: Listing) -> tuple[object, ...]:
    return listing.spans, tuple(sorted(listing.strays)), listing.problem


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def span(folder: Path, **files: str) -> Path:
    for name, text in (files or {"a": "x", "b": "x"}).items():
        put(folder / f"{name}.csv", text)
    put(folder / "_SUCCESS", "")
    return folder


def in_place(file: Path) -> None:
    file.write_text(file.read_text().swapcase())


# --- What a folder tells, and what it does not


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file arrives": lambda s: put(s / "c.csv"),
    "a file goes": lambda s: (s / "a.csv").unlink(),
    "a file is renamed": lambda s: (s / "a.csv").rename(s / "z.csv"),
    "a file is renamed over another": lambda s: put(s.parent.parent / "new", "y").rename(s / "a.csv"),
    "a file becomes a folder": lambda s: ((s / "a.csv").unlink(), (s / "a.csv").mkdir()),
    "a file becomes a link": lambda s: ((s / "a.csv").unlink(), (s / "a.csv").symlink_to("b.csv")),
    "the marker goes": lambda s: (s / "_SUCCESS").unlink(),
    "the marker becomes a folder": lambda s: ((s / "_SUCCESS").unlink(), (s / "_SUCCESS").mkdir()),
    "the span goes": shutil.rmtree,
    "the span is made anew": lambda s: (shutil.rmtree(s), span(s, a="y", b="y")),
    "the span is renamed": lambda s: s.rename(s.with_name("8")),
    "another one takes its name": lambda s: (s.rename(s.parent.parent / "old"), span(s, a="y", b="y")),
    "the span becomes a file": lambda s: (shutil.rmtree(s), put(s)),
    "a file arrives and the time is set back": lambda s: (
        (facts := s.stat()),
        put(s / "c.csv"),
        os.utime(s, ns=(facts.st_atime_ns, facts.st_mtime_ns)),
    ),
    "another span arrives": lambda s: span(s.with_name("9")),
    "a stray arrives": lambda s: (s.parent / "seven").mkdir(),
    "the base goes": lambda s: shutil.rmtree(s.parent),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", [3, 7])
def test_what_a_folder_tells_is_found_at_once_without_any_event(tmp_path: Path, change: str, number: int) -> None:
    for one in range(1, 8):
        span(tmp_path / f"data/{one}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    rescans.settle()
    CHANGES[change](tmp_path / f"data/{number}")
    assert rescans.agrees()


def test_nothing_is_looked_at_below_folders_that_are_as_they_were(tmp_path: Path) -> None:
    """Else the other tests would show nothing: a rewrite in place of an old span is not noticed at once."""
    for number in range(1, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    before = rescans.settle()
    in_place(tmp_path / "data/1/a.csv")
    again = rescans.lister.scan()
    assert all(one is other for one, other in zip(again.spans, before.spans, strict=True))
    assert not rescans.agrees()


def test_a_rewrite_in_place_is_found_at_once_where_an_event_told_of_it(tmp_path: Path) -> None:
    for number in range(1, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    rescans.settle()
    in_place(tmp_path / "data/1/a.csv")
    rescans.touches.tell(tmp_path / "data/1")
    assert rescans.agrees()


def test_a_rewrite_in_place_is_found_at_once_where_nobody_watches(tmp_path: Path) -> None:
    for number in range(1, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    facts = (tmp_path / "data/1").stat()
    rescans.touches.unwatched.add((facts.st_dev, facts.st_ino))
    rescans.settle()
    in_place(tmp_path / "data/1/a.csv")
    assert rescans.agrees()


def test_a_rewrite_in_place_of_which_nothing_tells_is_found_within_the_bound(tmp_path: Path) -> None:
    for number in range(1, 100):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    rescans.settle()
    for number in (1, 40, 70, 99):
        in_place(tmp_path / f"data/{number}/a.csv")
    for _ in range(int(EVERYTHING_WITHIN / timedelta(seconds=30)) + 1):
        rescans.clock.forward(seconds=30)
        rescans.lister.scan()
    assert rescans.agrees()


def test_rewrites_in_place_of_the_newest_spans_are_found_at_once(tmp_path: Path) -> None:
    for number in range(1, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}", newest=4)
    rescans.settle()
    in_place(tmp_path / "data/8/a.csv")
    in_place(tmp_path / "data/9/a.csv")
    assert rescans.agrees()


def test_a_change_in_the_same_tick_as_the_look_is_found_by_the_next_one(tmp_path: Path) -> None:
    """A folder whose times are young may change again without a sign."""
    for number in range(1, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    for number in (1, 2, 3):
        rescans.settle()
        put(tmp_path / f"data/{number}/c.csv")
        rescans.lister.scan()  # now its times are known, but new
        rescans.clock.forward(seconds=1)
        rescans.lister.scan()
        in_place(tmp_path / f"data/{number}/c.csv")  # stands for what a folder's time would not show
        assert rescans.agrees()


def link(tmp_path: Path, name: str) -> Path:
    """A span whose file is reached in a way that its folder does not tell of."""
    where = span(tmp_path / "data/1")
    target = put(tmp_path / "elsewhere/real.csv")
    match name:
        case "a link to a file":
            (where / "l.csv").symlink_to(target)
        case "a link to a link":
            (tmp_path / "elsewhere/hop").symlink_to(target)
            (where / "l.csv").symlink_to(tmp_path / "elsewhere/hop")
        case "a hard link":
            os.link(target, where / "l.csv")
        case "a link as marker":
            (where / "_SUCCESS").unlink()
            (where / "_SUCCESS").symlink_to(target)
    return target


@pytest.mark.parametrize("name", ["a link to a file", "a link to a link", "a hard link", "a link as marker"])
@pytest.mark.parametrize("change", ["rewritten", "replaced", "gone"])
def test_files_that_may_change_elsewhere_are_looked_at_every_time(tmp_path: Path, name: str, change: str) -> None:
    target = link(tmp_path, name)
    for number in range(2, 10):
        span(tmp_path / f"data/{number}")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    assert rescans.settle().spans[0].complete
    match change:
        case "rewritten":
            in_place(target)
        case "replaced":
            put(tmp_path / "new", "y").rename(target)
        case "gone":
            target.unlink()
    assert rescans.agrees()


def test_a_span_that_is_a_link_is_followed_when_it_is_swapped(tmp_path: Path) -> None:
    for number in range(2, 10):
        span(tmp_path / f"data/{number}")
    for store in ("old", "new"):
        span(tmp_path / store, a=store)
    (tmp_path / "data/1").symlink_to(tmp_path / "old")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    rescans.settle()
    (tmp_path / "draft").symlink_to(tmp_path / "new")
    (tmp_path / "draft").rename(tmp_path / "data/1")
    assert rescans.agrees()
    rescans.settle()
    shutil.rmtree(tmp_path / "new")
    assert rescans.agrees()


def test_a_base_that_is_a_link_is_followed_when_it_is_swapped(tmp_path: Path) -> None:
    for store in ("old", "new"):
        for number in range(1, 10):
            span(tmp_path / store / str(number), a=store)
    (tmp_path / "data").symlink_to("old")
    rescans = Rescans(tmp_path / "data/{SPAN}")
    rescans.settle()
    (tmp_path / "draft").symlink_to("new")
    (tmp_path / "draft").rename(tmp_path / "data")
    assert rescans.agrees()


# --- Anything at all

LISTS = '{"files": [{"name": "a", "size": 1}, {"name": "in/b", "size": 1}]}'
WORLDS: list[tuple[str, CompleteRule, list[str]]] = [
    ("{SPAN}", MARKER, ["1/a", "1/b", "1/_SUCCESS", "2/a", "2/_SUCCESS"]),
    ("{SPAN}", Renamed(), ["1/a-00000-of-00002", "1/a-00001-of-00002", "2/a"]),
    ("{SPAN}", Manifest("LIST.json"), ["1/a", "1/in/b", "1/LIST.json"]),
    ("{SPAN}/v{VERSION}", MARKER, ["1/v1/a", "1/v1/_SUCCESS", "1/v2/a", "1/v2/_SUCCESS"]),
    ("{SPAN}/*/part-*", MARKER, ["1/in/part-1", "1/out/part-1", "1/_SUCCESS"]),
    ("{SPAN}-*.csv", MARKER, ["1-a.csv", "1-a.csv_SUCCESS", "1-b.csv", "1-b.csv_SUCCESS"]),
    ("{SPAN}.csv", Renamed(), ["1.csv", "2.csv", "3.csv"]),
]
KINDS = ["write", "rewrite", "append", "rename over", "link", "hard link", "swap", "delete", "set back"]
NUMBERS = st.integers(0, 11)
OPERATIONS = st.lists(st.tuples(st.sampled_from(KINDS), NUMBERS, NUMBERS), min_size=1, max_size=6)


def paths(root: Path, files: list[str]) -> list[Path]:
    """Where something may happen: the files of a world, their folders, and some that are not there yet."""
    found = [root / file for file in files]
    return [
        *found,
        *found,
        *dict.fromkeys(file.parent for file in found),
        root / "1/new",
        root / "4",
        root.parent / "out",
    ]


def operate(root: Path, kind: str, path: Path, other: Path) -> bool:
    """Do it, if it can be done; whether it is one that folders do not tell of."""
    aside = root.parent / "aside"
    match kind:
        case "write" if not path.is_dir():
            existed = path.exists()
            put(path, "x" if existed and path.read_text() == "y" else "y")
            return existed
        case "rewrite" | "append" if path.is_file():
            text = path.read_text()
            path.write_text(text.swapcase() if kind == "rewrite" else text + "z")
            return True
        case "set back" if path.exists():
            facts = path.stat()
            if path.is_file():
                path.write_text(path.read_text().swapcase())
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            return path.is_file()
        case "rename over" if path.exists() and path != other and path not in other.parents:
            other.parent.mkdir(parents=True, exist_ok=True)
            path.rename(other)
        case "link" | "swap" if kind == "swap" or not path.exists():
            aside.unlink(missing_ok=True)
            aside.symlink_to(other)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(path)
        case "hard link" if other.is_file() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(other, path)
        case "delete" if path != root:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return False


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(world=st.sampled_from(WORLDS), operations=OPERATIONS, settled=st.booleans())
def test_whatever_happens_a_rescan_finds_what_a_first_look_finds(
    tmp_path_factory: pytest.TempPathFactory,
    world: tuple[str, CompleteRule, list[str]],
    operations: list[tuple[str, int, int]],
    *,
    settled: bool,
) -> None:
    """What folders do not tell of, and no event does, is found within the bound; everything else at once."""
    root = tmp_path_factory.mktemp("any") / "data"
    pattern, rule, files = world
    for file in files:
        put(root / file, LISTS if file.endswith("json") else "x")
    rescans = Rescans(root / pattern, rule)
    assert all(found.complete for found in rescans.settle().spans)
    for kind, one, other in operations:
        places = paths(root, files)
        try:
            untold = operate(root, kind, places[one % len(places)], places[other % len(places)])
        except OSError:  # it cannot be done: a file where a folder would have to be, a link in a circle
            untold = False
        if untold:
            rescans.clock.forward(seconds=EVERYTHING_WITHIN.total_seconds())
        assert rescans.agrees()
        if settled:
            rescans.settle()


# --- Splits, the quiet period, and turns


def test_a_span_of_several_splits_is_the_same_while_none_of_them_changes(tmp_path: Path) -> None:
    patterns = {split: SpanPattern.parse(f"{tmp_path}/{split}/{{SPAN}}") for split in ("train", "eval")}
    for split, number in itertools.product(patterns, range(1, 10)):
        span(tmp_path / split / str(number))
    clock = ManualClock()
    lister = lister_of(patterns, MARKER, clock, Silent())
    assert isinstance(lister, SplitLister)
    for _ in range(3):
        clock.forward(seconds=3)
        before = lister.scan()
    time.sleep(TICK)
    assert all(one is other for one, other in zip(lister.scan().spans, before.spans, strict=True))
    put(tmp_path / "eval/1/c.csv")
    assert [Path(file.path).name for file in lister.scan().spans[0].files] == [
        "a.csv",
        "b.csv",
        "a.csv",
        "b.csv",
        "c.csv",
    ]


def test_a_span_in_its_quiet_period_is_looked_at_in_full(tmp_path: Path) -> None:
    data = put(tmp_path / "data/1/a.csv")
    rescans = Rescans(tmp_path / "data/{SPAN}", Quiet(timedelta(seconds=30)))
    rescans.settle()
    in_place(data)
    (found,) = rescans.lister.scan().spans
    assert "unchanged for 0s of 30s" in found.because
    rescans.clock.forward(seconds=31)
    assert rescans.lister.scan().spans[0].complete


def waits(turns: Turns, names: list[str], gaps: list[float]) -> Iterator[float]:
    """How long each one waits for its turns."""
    now, last = 0.0, dict.fromkeys(names, 0.0)
    turns.take(now)
    for name in names:
        turns.had(name)
    for gap in gaps:
        now += gap
        for name in turns.take(now):
            yield now - last[name]
            last[name] = now
            turns.had(name)
    yield from (now - then for then in last.values())


@given(st.integers(1, 60), st.lists(st.floats(0.1, 400), min_size=1, max_size=200))
def test_everybody_has_a_turn_within_the_bound_and_one_scan_more(count: int, gaps: list[float]) -> None:
    longest = max(waits(Turns(), [f"{number}" for number in range(count)], gaps))
    assert longest <= EVERYTHING_WITHIN.total_seconds() + 2 * max(gaps)


def test_turns_are_spread_evenly() -> None:
    turns = Turns()
    turns.take(0)
    for number in range(1000):
        turns.had(f"{number}")
    share = 1000 * 30 / EVERYTHING_WITHIN.total_seconds()
    for scan in range(1, 100):
        taken = turns.take(scan * 30.0)
        assert abs(len(taken) - share) <= 1
        for name in taken:
            turns.had(name)
