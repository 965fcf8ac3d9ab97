"""Bugs planted into a copy of ctd, one at a time: the property tests of the planner must catch every one.

    python -m tests.planted                 all of them, some minutes
    python -m tests.planted pause window    those whose names have one of these words

Prints which test caught each and after how many examples, and ends with 1 if one survived. Where a planted text is not
in the code any more, which tests/unit/test_planted.py tells, plant it anew where its idea lives now.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROPERTIES = ("test_incremental.py", "test_arrivals.py", "test_history.py", "test_tempo.py")
_COUNTED = re.compile(r"::(\w+):\n(?:.*\n)*?.*?(\d+) passing, ([1-9]\d*) failing")
_FAILED = re.compile(r"FAILED \S+::(\w+)")


@dataclass(frozen=True)
class Bug:
    """One text of one file, and what is put in its place."""

    name: str
    file: str
    text: str
    instead: str


PLAN, RESOLVE, DECIDE = "planning/plan.py", "planning/resolve.py", "planning/decide.py"
ASKED, WINDOWS, TIMES, HISTORY = "planning/asked.py", "planning/windows.py", "planning/times.py", "core/history.py"
JUDGING, COALESCING, RESULTS = "planning/judging.py", "planning/coalescing.py", "planning/results.py"
ARRIVALS, CHANGES, NODES = "planning/arrivals.py", "planning/changes.py", "specs/nodes.py"

BUGS = (
    Bug("a model waits for the next one", JUDGING, "if key is None or model is None:", "if True:"),
    Bug("judges miss each other", JUDGING, "(self._under_way(m, gates, newest), m.id)", "m.id"),
    Bug("a model is judged twice", JUDGING, "if model.id <= last:", "if False:"),
    Bug("data waits for ever for more", COALESCING, "if isinstance(found, Held):", "if True:"),
    Bug("a span in the works has no result", RESULTS, "if status_of(decision) is not Status.PENDING:", "if True:"),
    Bug(
        "schema triggers nothing",
        PLAN,
        "if take.triggers and key in wired.sources",
        'if take.triggers and key != "schema" and key in wired.sources',
    ),
    Bug(
        "latest blessed triggers",
        NODES,
        'takes["base_model"] = Take(T.MODEL, LatestBlessed(), optional=True, triggers=False)',
        'takes["base_model"] = Take(T.MODEL, LatestBlessed(), optional=True)',
    ),
    Bug("settings count for nothing", PLAN, '"settings": dict(piece.settings)}', '"settings": {}}'),
    Bug("imported code counts for nothing", PLAN, '"strict": code.digest', '"strict": code.own'),
    Bug("packages count for nothing", PLAN, "if piece.packages:", "if piece.packages and not wired.module:"),
    Bug("files count for nothing", PLAN, "if piece.files:", "if piece.files and piece.name:"),
    Bug("targets count for nothing", PLAN, 'found["target"] = dict(self.world.targets[piece.target].settings)', "pass"),
    Bug("content counts for nothing", PLAN, '"content": span.digest,', '"content": "",'),
    Bug("the timeout counts", "specs/base.py", '            "timeout",\n', ""),
    Bug(
        "stale latest",
        HISTORY,
        "self.latest = _newer(self.latest, e)",
        "self.latest = self.latest or e",
    ),
    Bug(
        "stale latest success",
        HISTORY,
        "self.latest_success = _newer(self.latest_success, e)",
        "self.latest_success = self.latest_success or e",
    ),
    Bug(
        "stale index by key",
        HISTORY,
        "self.by_key[key] = (*self.by_key.get(key, ()), e.id)",
        "self.by_key.setdefault(key, (e.id,))",
    ),
    Bug(
        "stale index by work",
        HISTORY,
        "self.by_work[e.fingerprint] = (*self.by_work.get(e.fingerprint, ()), e.id)",
        "self.by_work.setdefault(e.fingerprint, (e.id,))",
    ),
    Bug("a blessing is never taken back", HISTORY, "            del blessed[at]", "            pass"),
    Bug(
        "stale arrivals",
        HISTORY,
        "arrived[span] = min(arrived.get(span, e.started), e.started)",
        "arrived[span] = e.started",
    ),
    Bug("stale pushes", HISTORY, "if e.id not in pushes[-1:]:", "if not pushes:"),
    Bug("what was collected is live", HISTORY, "return artifact.id not in self._gone", "return True"),
    Bug("what ended runs on", HISTORY, "self._running.pop(e.id, None)", "pass"),
    Bug(
        "requests are forgotten",
        HISTORY,
        "self._asked.setdefault((r.pipeline, r.node, r.verb), {})[r.id] = r",
        "self._asked.setdefault((r.pipeline, r.node, r.verb), {r.id: r})",
    ),
    Bug(
        "an older version wins",
        PLAN,
        "key=lambda s: s.span, reverse=True",
        "key=lambda s: (s.span.number, -(s.span.version or 0)), reverse=True",
    ),
    Bug(
        "an incomplete version hides the older one",
        PLAN,
        "if isinstance(decision, Wait) and decision.absent:\n                    beside",
        "if isinstance(decision, Wait) and decision.absent and span.span.version == 1:\n                    beside",
    ),
    Bug(
        "a denied span enters windows",
        WINDOWS,
        "if number in shut_out and not _names(select, number):",
        "if number in shut_out and shut_out[number]:",
    ),
    Bug(
        "a late span enters windows",
        WINDOWS,
        "if number in shut_out and not _names(select, number):",
        "if number in shut_out and not shut_out[number] and not _names(select, number):",
    ),
    Bug(
        "a quarantined span enters windows",
        WINDOWS,
        'return Admission.QUARANTINED, f"quarantined {why}"',
        "return Admission.YES, why",
    ),
    Bug("block only leaves out", WINDOWS, 'if gate.policy == "block":', 'if gate.policy == "never":'),
    Bug(
        "an acceptance counts for other data",
        ASKED,
        "finding(execution, gate) == request.about",
        "finding(execution, gate)",
    ),
    Bug("an acceptance is not heeded", WINDOWS, "or span in gate.accepted", ""),
    Bug(
        "a gate judges spans of another input",
        "specs/wiring.py",
        "self._fan_root(gate, sources) == root",
        "self._fan_root(gate, sources)",
    ),
    Bug("the newest span enters unjudged", "specs/wiring.py", "Window | Latest | Alongside", "Window | Alongside"),
    Bug("gaps are not waited for", WINDOWS, "elif select.consecutive:", "elif select.consecutive and len(there) > 3:"),
    Bug("window off by one", WINDOWS, "return found < select.count", "return found <= select.count"),
    Bug("window of made artifacts off by one", WINDOWS, "ordered[-select.count :]", "ordered[-select.count - 1 :]"),
    Bug("range off by one", WINDOWS, "number <= select.last", "number < select.last"),
    Bug(
        "min_spans off by one",
        WINDOWS,
        "len(taken.artifacts) < select.least",
        "len(taken.artifacts) < select.least - 1",
    ),
    Bug(
        "the previous span is the oldest",
        RESOLVE,
        "in self.decided.before(place, span):",
        "in sorted(self.decided.before(place, span)):",
    ),
    Bug("permanent failures are tried again", DECIDE, "if not failure.retryable or (", "if ("),
    Bug(
        "temporary failures are not tried again",
        DECIDE,
        "if not failure.retryable or (",
        'if failure.kind == "StorageUnavailable" or not failure.retryable or (',
    ),
    Bug(
        "lost workers are tried for ever",
        DECIDE,
        'COUNTED = frozenset({"WorkerLost", "ComponentTimeout", "ServerDeadline"})',
        'COUNTED = frozenset({"ComponentTimeout", "ServerDeadline"})',
    ),
    Bug("a retry is not heeded", DECIDE, "if retry and not counted:", "if retry and not tried:"),
    Bug(
        "what was cancelled is done again",
        DECIDE,
        "if cancel or last.state is State.CANCELLED:",
        "if cancel and last.state is State.CANCELLED:",
    ),
    Bug(
        "a lost artifact is reused",
        DECIDE,
        "if not world.history.live(artifact) or artifact.uri in world.missing:",
        "if not world.history.live(artifact):",
    ),
    Bug(
        "a collected artifact is reused",
        DECIDE,
        "if not world.history.live(artifact) or artifact.uri in world.missing:",
        "if artifact.uri in world.missing:",
    ),
    Bug(
        "a lost version is not pushed again",
        "planning/effects.py",
        "if target and target.repair else",
        "if target and not target.repair else",
    ),
    Bug("an older push counts", DECIDE, "latest.id != done[-1].id or not effects", "not effects"),
    Bug("again is not heeded", ASKED, "Verb.RUN_NOW) if r.again)", "Verb.RUN_NOW) if r.again and r.key)"),
    Bug("two at a time", DECIDE, "if busy is None:", "if busy is None or wanted.span is None:"),
    Bug("a pause is ignored for one node", ASKED, "    if pause:", '    if pause and run.subject.node != "evaluator":'),
    Bug(
        "a resumed node stays paused",
        ASKED,
        "resume is not None and resume.id > pause.id",
        "resume is not None and resume.id > pause.id + 3",
    ),
    Bug("an approval counts for other work", ASKED, "if r.about == run.fingerprint", "if r.about"),
    Bug(
        "a rejection counts for nothing",
        ASKED,
        "for verb in (Verb.APPROVE, Verb.REJECT)",
        "for verb in (Verb.APPROVE,)",
    ),
    Bug("manual runs by itself", TIMES, 'if node.when == "manual":', 'if node.when == "manual" and last is None:'),
    Bug("a schedule is not heeded", TIMES, "return fire.before if owed else fire.at", "return fire.before"),
    Bug("a time that has passed is not owed", TIMES, "if owed else fire.at", "if unseen else fire.at"),
    Bug("an interval is not heeded", TIMES, "return turn.started + node.schedule.every", "return turn.started"),
    Bug("a failed attempt uses up its turn", TIMES, "if last is not turn or turn is None", "if turn is None"),
    Bug("a verdict waits for a time", PLAN, " or self.spec.first[wired.node] != wired.piece.name", ""),
    Bug("min_interval is not heeded", TIMES, "if world.now < due:", "if world.now > due:"),
    Bug(
        "a refused model is pushed", RESOLVE, "            if refused:", "            if refused and len(refused) > 1:"
    ),
    Bug("a verdict on another model counts", RESOLVE, "mine.digest == judged.digest", "mine.digest"),
    Bug(
        "an evaluation of another model counts",
        RESOLVE,
        "(take.must_be_blessed or take.of_model)",
        "take.must_be_blessed",
    ),
    Bug("the baseline is the candidate", RESOLVE, "model.id < candidate", "model.id <= candidate"),
    Bug("a lost model is the base", RESOLVE, " and model.uri not in self.world.missing", ""),
    Bug("late is counted from the last newer span", ARRIVALS, "or at < newer[0]", "or at > newer[0]"),
    Bug("denied spans make others late", ARRIVALS, "and number not in node.deny", ""),
    Bug(
        "removed spans make others late",
        ARRIVALS,
        "read = _read(node, name, pipeline, there, world)",
        "read = dict(world.history.arrived(pipeline, name, read=True))",
    ),
    Bug(
        "other content of a removed number makes others late",
        ARRIVALS,
        "world.history.first_read(pipeline, name, number, span.digest) if span.digest else ever[number]",
        "ever[number]",
    ),
    Bug("an accepted exception is a baseline", RESOLVE, "if request.baseline or not baseline", "if request.span"),
    Bug("an edit mends nothing", DECIDE, 'e.told not in ("", wanted.told)', "e.told not in (wanted.told, e.told)"),
    Bug("ignored changes are read", CHANGES, 'if policy == "new_version":', 'if policy != "fail":'),
)


def main(words: list[str]) -> int:
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    survived = 0
    for bug in chosen:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            caught = caught_by(bug, Path(folder))
        survived += not caught
        said = ", ".join(caught) or "SURVIVED"
        sys.stdout.write(f"| {bug.name} | {said} | {time.monotonic() - began:.0f} s |\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} planted, {survived} survived\n")
    return 1 if survived else 0


def caught_by(bug: Bug, folder: Path) -> list[str]:
    """The tests that fail with the bug, with the number of examples that passed before."""
    plant(bug, folder)
    return _failing(bug, folder, "glance") or _failing(bug, folder, "planted")


def _failing(bug: Bug, folder: Path, profile: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-p", "no:cacheprovider"]
    files = [f"tests/unit/{name}" for name in PROPERTIES]
    done = subprocess.run(
        [*command, f"--hypothesis-profile={profile}", "--hypothesis-show-statistics", *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    passed = {test: count for test, count, _ in _COUNTED.findall(done.stdout)}
    failed = _FAILED.findall(done.stdout)
    if done.returncode not in (0, 1) or (done.returncode == 1 and not failed):
        raise SystemExit(f"{bug.name}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return [f"{test} after {passed[test]} examples" if test in passed else test for test in failed]


def plant(bug: Bug, folder: Path) -> None:
    """A copy of ctd and its tests in the folder, with the bug in it."""
    for name in ("ctd", "tests/unit"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    file = folder / "ctd" / bug.file
    code = file.read_text()
    if code.count(bug.text) != 1:
        raise SystemExit(f"{bug.name}: ctd/{bug.file} has {code.count(bug.text)} times: {bug.text}")
    file.write_text(code.replace(bug.text, bug.instead))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
