"""The acts of the demo. Each does something to the world, waits, shows what came of it, and checks that it is so."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demonstration.screen import Screen
from demonstration.seen import Run, Seen, Unexpected, work
from demonstration.stage import CTD, Stage, same_float32

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = "2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07"
NODES = ["examples", "schema", "statistics", "validator", "transform", "trainer", "evaluator", "infra", "pusher"]
LIMIT = "at_least: 0.75"
LOWER, HIGHER = "at_least: 0.80", "at_least: 0.99"


@dataclass
class Journey:
    """From the moment a day was complete to its model being served, and the executions on the way."""

    name: str
    seconds: float
    dropped: float
    runs: Sequence[Run]


@dataclass
class Play:
    """What the acts share."""

    stage: Stage
    screen: Screen
    journeys: list[Journey] = field(default_factory=list)
    said_before: list[float] = field(default_factory=list)  # what version 1 predicted

    @property
    def seen(self) -> Seen:
        return self.stage.seen


def the_daemon_starts(play: Play) -> None:
    """Act 1."""
    stage, screen = play.stage, play.screen
    screen.say(
        "Two processes: the daemon, which watches specs/, deploy_targets/ and everything they name, and a model "
        "server for the models that it pushes. The folder is a copy of examples/taxi, with one target at first."
    )
    screen.command(f"cd {_short(stage.folder)}")
    stage.start_server()
    screen.command(stage.serve_command)
    screen.command("ctd run &")
    stage.start_daemon()
    seen = play.seen
    seen.until("the daemon has the pipeline taxi", lambda: seen.status().get("pipeline") == "taxi", 60)
    status = seen.status()
    loaded = Path(f"/proc/{stage.pid('ctd run')}/maps").read_text()
    _expect("tensorflow" not in loaded, "the daemon has no TensorFlow in it", "a library of TensorFlow is mapped")
    memory = status["daemon"]["memory_mb"]
    screen.proved(f"The daemon answers, in {memory:.0f} MB: TensorFlow is for its workers, not for itself.")


def a_day_arrives(play: Play) -> None:
    """Act 2."""
    play.screen.say(
        "A day of trips is a span. Nobody starts anything: when the marker _SUCCESS lies beside the file, ctd reads, "
        "checks, trains, judges and pushes. The first workers wait until TensorFlow is imported, once."
    )
    journey = _from_drop_to_served(play, MONDAY, version=1, name="Monday, cold")
    ran = {run.node for run in journey.runs}
    _expect(ran == set(NODES), f"each node ran: {', '.join(NODES)}", ", ".join(sorted(ran)))
    for node in ("evaluator", "infra"):
        play.screen.quote(node, _last(journey.runs, node).result)
    play.stage.run("ctd status", [CTD, "status"])
    play.screen.proved(f"Version 1 is served, {journey.seconds:.1f} s after the day was complete.")


def it_answers(play: Play) -> None:
    """Act 3."""
    stage, screen = play.stage, play.screen
    screen.say("Will these rides earn a tip above 20 % of the fare? The same question over gRPC and over REST:")
    grpc = stage.ask_grpc(MONDAY, 3, show=True)
    body = json.dumps({"instances": [{"b64": example} for example in grpc["examples"]]})
    (stage.folder / "request.json").write_text(body)
    screen.command(f"curl -d @request.json http://127.0.0.1:{stage.rest}/v1/models/taxi:predict")
    rest = [row[0] if isinstance(row, list) else row for row in _predict(stage, body)]
    rows = []
    for trip, one, other in zip(grpc["trips"], grpc["probabilities"], rest, strict=True):
        ride = f"{trip['fare']} $, {trip['trip_miles']} miles at {trip['trip_start_hour']} h"
        rows.append((ride, f"{one:.6f}", f"{other:.6f}"))
    screen.table(("ride, paid by card", "gRPC", "REST"), rows)
    _expect(grpc["version"] == 1, "version 1 answers", f"version {grpc['version']}")
    same = all(same_float32(one, other) for one, other in zip(grpc["probabilities"], rest, strict=True))
    _expect(same and len(rest) == 3, f"REST says what gRPC says, {grpc['probabilities']}", str(rest))
    _expect(all(0 <= p <= 1 for p in rest), "predictions are probabilities", str(rest))
    play.said_before = rest
    screen.proved("Both answers are the same numbers, from version 1.")


def another_day_arrives(play: Play) -> None:
    """Act 4."""
    screen = play.screen
    screen.say(
        "The next day: only what it affects runs. Workers are forked from a process that has TensorFlow imported, the "
        "trainer begins with the blessed model's weights, the evaluator compares with the model in service."
    )
    journey = _from_drop_to_served(play, TUESDAY, version=2, name="Tuesday, warm")
    first = min(run.number for run in journey.runs)
    reused = [d for d in play.seen.plan() if d["action"] == "reuse" and d["execution"] < first]
    screen.say("Not done again: " + ", ".join(work(d["node"], d["piece"], d["key"]) for d in reused))
    ran, untouched = {run.node for run in journey.runs}, {d["node"] for d in reused}
    _expect("schema" not in ran, "the schema is not imported again", str(ran))
    want = {"examples", "statistics", "validator", "schema"}
    _expect(want <= untouched, f"Monday's {', '.join(sorted(want))} are reused", str(untouched))

    candidate, baseline = _metrics(play, _last(journey.runs, "evaluator", "metrics"))
    names = ("BinaryAccuracy", "AUC")
    rows = [(name, f"{baseline[name]:.4f}", f"{candidate[name]:.4f}") for name in names]
    screen.table((f"on {TUESDAY}", "version 1, in service", "the candidate"), rows)
    verdict = _last(journey.runs, "evaluator", "verdict").result
    _expect("of the baseline" in verdict, "the verdict compares with the blessed model", verdict)
    screen.quote("evaluator", verdict)
    after = play.stage.ask_grpc(MONDAY, 3)
    _expect(after["version"] == 2, "version 2 answers", f"version {after['version']}")
    _expect(after["probabilities"] != play.said_before, "another model gives other numbers", str(after))
    told = ", ".join(
        f"{now:.3f} (was {then:.3f})" for now, then in zip(after["probabilities"], play.said_before, strict=True)
    )
    screen.say(f"Monday's three rides, asked again: {told}")
    screen.proved(f"Version 2 is served, {journey.seconds:.1f} s after the day was complete.")


def a_threshold_is_edited(play: Play) -> None:
    """Act 5."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say(
        "Measuring and judging are two pieces of work. A new threshold judges the old numbers again: no training, no "
        "metrics. The answer is the same, so nothing that follows has to run."
    )
    took = _judged(play, LIMIT, LOWER, blessed=True)
    screen.proved(f"Judged again {took:.1f} s after the file was saved; nothing else ran.")

    screen.say("A threshold that the model in service does not meet:")
    took = _judged(play, LOWER, HIGHER, blessed=False)
    reason = seen.until("the pusher is blocked", lambda: _blocked(seen, "pusher"), 30)
    for word in ("overall", "BinaryAccuracy", "0.99"):
        _expect(word in reason, "the refusal names slice, metric, value and limit", reason)
    stage.run("ctd status", [CTD, "status"], code=3)
    _expect(2 in stage.served(), "version 2 stays in service", str(stage.served()))
    screen.proved(f"Refused {took:.1f} s after the file was saved, with slice, metric, value and limit.")

    screen.say("And back: that verdict is known, so nothing at all runs.")
    before = seen.last
    stage.edit(HIGHER, LIMIT)
    seen.until("all is as wanted again", lambda: seen.status()["state"] == "as wanted", 60)
    _expect(not seen.since(before), "nothing runs", _names(seen.since(before)))
    screen.proved("As wanted again, and no execution was needed for it.")


def half_a_day_waits(play: Play) -> None:
    """Act 6."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say("A copy that is half-way: its file is there, the marker is not.")
    before = seen.last
    stage.drop(WEDNESDAY, "--half")

    def waits() -> str:
        node = seen.node("examples")
        return str(node["because"]) if node["state"] == "waiting" and "_SUCCESS" in node["because"] else ""

    reason = seen.until("the examples of the half day wait for the marker", waits, 60)
    seen.still("nothing runs on half a day", lambda: not seen.since(before), 3)
    screen.say(f"examples waits: {reason}")
    screen.proved("Nothing ran on half a day, and `ctd status` says what it waits for.")


def a_typo_is_saved(play: Play) -> None:
    """Act 7."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say("Somebody saves a spec with a typo, and the half day is completed while it is there.")
    line = stage.line_of("train_steps:")
    stage.edit("train_steps:", "train_step:")
    problems = seen.until("the edit is refused", lambda: seen.status()["problems"], 30)
    _expect(problems[0]["line"] == line, f"the problem is at line {line}", str(problems))
    _expect("train_steps" in problems[0]["hint"], "the hint knows the right word", str(problems))
    stage.run("ctd validate", [CTD, "validate"], code=2)
    screen.say("The last good spec stays in force; the day that waited goes on with it:")
    journey = _from_drop_to_served(play, WEDNESDAY, version=3, name="Wednesday, warm")
    _expect(bool(seen.status()["problems"]), "the typo is still shown", str(seen.status()["problems"]))
    before = seen.last
    stage.edit("train_step:", "train_steps:")
    seen.until("the mended spec is in force", lambda: _at_rest(seen) and not seen.status()["problems"], 60)
    _expect(not seen.since(before), "the mended spec asks for nothing new", _names(seen.since(before)))
    screen.proved(
        f"Refused with file, line and hint; version 3 served meanwhile, {journey.seconds:.1f} s after the day was "
        "complete; mended, and there was nothing to do."
    )


def a_strange_day_arrives(play: Play) -> None:
    """Act 8."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say(
        "Thursday is not like the other days: nearly everybody pays by card. The validator compares it with Wednesday "
        "and refuses it; the spec says `on_anomaly: quarantine`, so it stays out of the windows."
    )
    before = seen.last
    stage.drop(THURSDAY, "--drift", "0.4")
    with screen.runs(seen, before):
        seen.until("Thursday is validated", lambda: _ended(seen, before, "validator"), 120)
        seen.until("the pipeline is at rest", lambda: _at_rest(seen), 60)
    reason = _last(seen.since(before), "validator").result
    for word in ("payment_type", "0.1"):
        _expect(word in reason, "the refusal names the feature and its limit", reason)
    screen.quote("validator", reason)
    ran = {run.node for run in seen.since(before)}
    _expect(
        ran == {"examples", "statistics", "validator"},
        "nothing is trained on a refused day",
        _names(seen.since(before)),
    )
    _expect(3 in stage.served(), "version 3 stays in service", str(stage.served()))
    screen.proved("Refused, with feature, value and limit. Nothing was trained on it, and version 3 stays in service.")


def an_old_day_is_corrected(play: Play) -> None:
    """Act 9."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say(
        "Monday's fares are corrected and delivered as version 2. Only what Monday affects runs; Tuesday is compared "
        "with it, so its drift is measured again. Thursday is still refused: training goes on without it."
    )
    before = seen.last
    runs = _served(play, 4, before, lambda: stage.drop(MONDAY, version=2))
    once = [run.node for run in runs if run.node in ("examples", "statistics")]
    _expect(sorted(once) == ["examples", "statistics"], "one span is read and measured", _names(runs))
    checked = [run.key for run in runs if run.node == "validator"]
    _expect(len(checked) == 2, "Monday is checked, and Tuesday's drift against it", str(checked))
    _expect("schema" not in {run.node for run in runs}, "the schema is not imported again", _names(runs))
    trained = _last(runs, "trainer").work
    _expect("(3)" in trained, "the trainer takes three days, without Thursday", trained)

    screen.say("The same version once more under a new number, byte by byte the same:")
    before = seen.last
    stage.copy(f"data/{MONDAY}/v2", f"data/{MONDAY}/v3")
    with screen.runs(seen, before):
        seen.until("version 3 of Monday is read", lambda: _ended(seen, before, "examples"), 60)
        seen.until("the pipeline is at rest", lambda: _at_rest(seen), 60)
    ran = [run.node for run in seen.since(before)]
    _expect(ran == ["examples"], "only the examples are made", _names(seen.since(before)))
    screen.proved("Corrected and served. Read again, the same examples came of it, so nothing after them ran.")


def the_strange_day_is_accepted(play: Play) -> None:
    """Act 10."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say("Somebody knows why: the day is right. It is let in, for what was found in it and with a reason.")
    before = seen.last
    reason = "cards were free of charge on that day"
    accept = [CTD, "accept", "taxi", THURSDAY, "--reason", reason]
    said = f'ctd accept taxi {THURSDAY} --reason "{reason}"'
    runs = _served(play, 5, before, lambda: stage.run(said, accept))
    _expect("validator" not in {run.node for run in runs}, "the day is not validated again", _names(runs))
    trained = _last(runs, "trainer").work
    _expect("(4)" in trained, "the trainer takes four days, with Thursday", trained)
    why = "explain taxi trainer | sed -n '/^Why$/,/^$/p'"
    stage.run(f"ctd {why}", ["sh", "-c", f"{shlex.quote(CTD)} {why}"])
    screen.proved("Trained on all four days and served; who accepted the day, when and why is recorded.")


ACTS = (
    ("The daemon starts", the_daemon_starts),
    ("A day of trips arrives", a_day_arrives),
    ("The model server answers", it_answers),
    ("Another day arrives", another_day_arrives),
    ("A threshold is edited", a_threshold_is_edited),
    ("Half a day waits", half_a_day_waits),
    ("A typo is saved", a_typo_is_saved),
    ("A strange day arrives", a_strange_day_arrives),
    ("An old day is corrected", an_old_day_is_corrected),
    ("The strange day is accepted", the_strange_day_is_accepted),
)


def _from_drop_to_served(play: Play, day: str, version: int, name: str) -> Journey:
    """Drop a day and wait until the server has its model; a version that the demo does not expect is an error."""
    stage, seen = play.stage, play.seen
    before = seen.last
    dropped = stage.drop(day)
    with play.screen.runs(seen, before):
        seen.until(f"version {version} is served", lambda: version in stage.served() or _refused(seen, before))
        seconds = time.time() - dropped
        seen.until("all nodes are up to date", lambda: _at_rest(seen), 60)
    live = seen.status()["live"][0]
    _expect((live["version"], live["verified"]) == (version, True), f"version {version} is live, verified", str(live))
    states = {node["node"]: node["state"] for node in seen.status()["nodes"]}
    _expect(set(states.values()) == {"up to date"}, "all nodes are up to date", str(states))
    first = not play.journeys  # then the schema belongs to it, which was read when the daemon started
    journey = Journey(name, seconds, dropped, seen.since(0 if first else before))
    play.journeys.append(journey)
    return journey


def _served(play: Play, version: int, before: int, act: Callable[[], object]) -> list[Run]:
    """Do something that leads to a new version in service; what ran for it."""
    seen = play.seen
    act()
    with play.screen.runs(seen, before):
        seen.until(f"version {version} is served", lambda: version in play.stage.served() or _refused(seen, before))
        seen.until("the pipeline is at rest", lambda: _at_rest(seen), 60)
    return seen.since(before)


def _ended(seen: Seen, before: int, node: str) -> list[Run]:
    return [run for run in seen.since(before) if run.node == node and run.ended]


def _refused(seen: Seen, before: int) -> bool:
    """Raises Unexpected when a model was not blessed, as nothing will be served then."""
    for run in seen.since(before):
        if run.result.startswith("not blessed"):
            raise Unexpected("the model is blessed", f"{run.work}: {run.result}", seen.log)
    return False


def _judged(play: Play, old: str, new: str, *, blessed: bool) -> float:
    """Edit a limit, and see that the verdict and nothing else is made; the seconds from saving to verdict."""
    seen = play.seen
    before = seen.last
    saved = play.stage.edit(old, new)
    with play.screen.runs(seen, before):
        done = seen.until("the evaluator judges again", lambda: [r for r in seen.since(before) if r.ended], 60)
    seen.until("the pipeline is at rest", lambda: _at_rest(seen), 60)
    ran = [(run.node, run.piece) for run in seen.since(before)]
    _expect(ran == [("evaluator", "verdict")], "only the evaluator's verdict runs", _names(seen.since(before)))
    says = done[0].result
    _expect(says.startswith("blessed" if blessed else "not blessed"), f"blessed: {blessed}", says)
    return float(done[0].ended - saved)


def _at_rest(seen: Seen) -> bool:
    return not seen.status().get("working", True)


def _blocked(seen: Seen, node: str) -> str:
    found = seen.node(node)
    return str(found["because"]) if found["state"] == "blocked" else ""


def _predict(stage: Stage, body: str) -> list[Any]:
    found: list[Any] = stage.ask_rest("/v1/models/taxi:predict", body.encode())["predictions"]
    return found


def _metrics(play: Play, measured: Run) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The overall metrics of the candidate and of the model in service, as the evaluator wrote them."""
    folder = play.stage.folder / "state" / "artifacts" / "taxi" / "evaluator" / "evaluation" / str(measured.number)
    rows = json.loads((folder / "metrics.json").read_text())
    overall = {row["model"]: row["metrics"] for row in rows if not row["slice"]}
    _expect({"candidate", "baseline"} <= overall.keys(), "two models are measured", str(sorted(overall)))
    return overall["candidate"], overall["baseline"]


def _last(runs: Sequence[Run], node: str, piece: str = "") -> Run:
    return [run for run in runs if run.node == node and run.piece.startswith(piece)][-1]


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.work for run in runs) or "nothing"


def _expect(holds: bool, expected: str, seen: str) -> None:
    if not holds:
        raise Unexpected(expected, seen)


def _short(path: Path) -> str:
    """The path as one would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
