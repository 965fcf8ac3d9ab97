"""What is rewritten behind a daemon's back reaches the work, and a restart reads nothing again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ctd.core.history import History
from ctd.core.timing import ManualClock
from ctd.engine.observe import Observer
from ctd.planning.world import SpansFact
from ctd.specs.load import load_pipeline
from ctd.specs.pipeline import PipelineSpec
from ctd.storage.digest_file import DigestFile
from ctd.storage.digests import FileDigests
from ctd.storage.unchanged import EVERYTHING_WITHIN, Identity
from tests.flow.bench import DEFAULTS, Bench


class Deaf:
    """Everything is watched, and nothing is ever told."""

    def count(self) -> int:
        return 0

    def last(self, folder: Identity) -> int | None:
        return 0


class Reads:
    """Which files are opened, by this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        really = os.open

        def noted(path: str, flags: int, *more: int) -> int:
            self.paths.append(str(path))
            return really(path, flags, *more)

        monkeypatch.setattr(os, "open", noted)

    def of_spans(self) -> list[str]:
        read, self.paths = self.paths, []
        return [path for path in read if path.endswith(".csv")]


class Site:
    """A pipeline with spans on disk, and one observer after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bench = Bench(root)
        for number in range(1, 150):
            self.bench.span(number)
        self.spec: PipelineSpec = load_pipeline(self.bench.spec(**DEFAULTS))
        self.clock = ManualClock(datetime.now(timezone.utc) + timedelta(hours=1))

    def start(self, *, deaf: bool = False) -> None:
        digests = FileDigests(self.clock, DigestFile(self.root / "digests", self.clock))
        self.observer = Observer(self.clock, lambda _: None, Deaf() if deaf else None, digests)

    def look(self) -> SpansFact:
        (spans,) = self.observer.observe(self.spec, {}, History()).spans.values()
        return spans


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.start()
    yield made
    made.observer.close()


def test_a_restart_reads_no_span_again_but_those_that_changed_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch)
    before = site.look()
    assert len(reads.of_spans()) == 149
    site.observer.close()
    site.bench.span(3, "fare\n33\n")
    site.start()
    after = site.look()
    assert reads.of_spans() == [str(site.root / "data/taxi/3/trips.csv")]
    changed = [one.span.number for one, other in zip(after.spans, before.spans, strict=True) if one != other]
    assert changed == [3]


def test_without_the_file_of_digests_everything_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    before = site.look()
    site.observer.close()
    (site.root / "digests").unlink()
    reads.of_spans()
    site.start()
    assert site.look() == before
    assert len(reads.of_spans()) == 149


def test_an_old_span_rewritten_in_place_without_an_event_has_another_digest_within_the_bound(site: Site) -> None:
    site.start(deaf=True)
    for _ in range(4):
        site.clock.forward(seconds=3)
        before = site.look()
    time.sleep(0.02)
    (site.root / "data/taxi/1/trips.csv").write_text("fare\n8\n")
    assert site.look().spans[0] is before.spans[0]
    for _ in range(int(EVERYTHING_WITHIN / timedelta(seconds=30)) + 1):
        site.clock.forward(seconds=30)
        after = site.look()
    assert after.spans[0].digest not in ("", before.spans[0].digest)
    assert all(one is other for one, other in zip(after.spans[1:], before.spans[1:], strict=True))
