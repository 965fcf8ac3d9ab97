"""From a spec and a world to a plan: every piece of work in turn, sources first. A pure function."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.executions import LeftOut, State
from ctd.core.fingerprints import digest_of
from ctd.core.lookalikes import times_in_numbers
from ctd.core.selectors import Pinned, Take
from ctd.core.spans import Span
from ctd.planning import canaries
from ctd.planning.arrivals import late, misnumbered, silence, silent_from
from ctd.planning.asked import permitted
from ctd.planning.backfills import Backfills, invited, unread
from ctd.planning.changes import kept, revision, unless_new_version
from ctd.planning.coalescing import Coalescing, begins, waits
from ctd.planning.decide import Wanted, decide
from ctd.planning.decided import Decided, Held, outputs_of
from ctd.planning.decisions import Alert, Blocked, Decision, Plan, Reuse, Run, Standing, Subject, Unread, Wait
from ctd.planning.effects import alert, standing
from ctd.planning.holds import Hold, hold, inputs_of, live_is_damaged, repair
from ctd.planning.judging import Judging, model_key
from ctd.planning.push_deadlines import PushDeadlines
from ctd.planning.reasons import span_key, spans_key
from ctd.planning.resolve import Inputs, Resolver, gather, spans_of
from ctd.planning.results import Identity, Results
from ctd.planning.supersede import unless_running
from ctd.planning.times import in_time
from ctd.planning.told_once import ToldOnce
from ctd.planning.world import SpanFact, SpansFact, World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.timing import TimedNode
from ctd.specs.wired import WiredPiece


def plan(spec: PipelineSpec, world: World) -> Plan:
    """What to do about a pipeline in this world. The same arguments give the same plan."""
    return _Planner(spec, world).plan()


_ANY = 0  # for pieces that do not run per span


def _tells(decision: Decision) -> bool:
    """Whether there is something to do about work, or something was done about it that did not succeed."""
    match decision:
        case Run() | Blocked():
            return True
        case Wait():
            return decision.running or decision.queued or bool(decision.until or decision.supersedes)
        case _:
            return False


def _counts(take: Take, artifacts: tuple[Artifact, ...]) -> bool:
    """Whether an input makes a difference to the work: one of which only a part counts does not while that is empty."""
    return not take.part or any(artifact.content(take.part) for artifact in artifacts)


class _Planner:
    def __init__(self, spec: PipelineSpec, world: World) -> None:
        self.spec = spec
        self.world = world
        self.decided = Decided()
        self.alerts: list[Alert] = []
        self.alert_at: datetime | None = None
        self.left_out: dict[Subject, tuple[LeftOut, ...]] = {}
        self.unread: list[Unread] = []
        self.notes: list[str] = []
        self.targets: dict[str, Standing] = {}
        self.unseen: set[str] = set()
        self.told: dict[tuple[str, str], str] = {}
        self.identities: dict[tuple[str, str], Identity] = {}
        self.lists = ToldOnce()
        self.backfills = Backfills(spec.name, world.history)
        work = {w.id: w for w in spec.work}
        denied = {name: frozenset(node.deny) for name, node in spec.inputs.items()}
        self.resolver = Resolver(spec.name, self.decided, world, work, denied, spec.judges)
        results = Results(self.resolver, self._identity)
        self.judging = Judging(results)
        self.coalescing = Coalescing(results)

    def plan(self) -> Plan:
        decisions: list[Decision] = []
        for wired in self.spec.work:
            if wired.node in self.spec.inputs:
                decisions += self._roots(wired)
            elif wired.per_span:
                above = self._fan(wired)
                arrived = {n: d for n, d in above.items() if not (isinstance(d, Wait) and d.absent)}
                by_span: dict[int, Decision] = {}
                self.decided.by_span[wired.id] = by_span
                for number in sorted(arrived):  # what looks back at spans before finds them decided
                    by_span[number] = self._decide(wired, number)
                decisions += (by_span[number] for number in arrived)
            elif wired.piece.watches:
                watch = canaries.watched(self.spec.name, wired, self.spec.node(wired.node).attempts, self.world)
                decisions += [watch] if watch else []
            else:
                decision = self._decide(wired, None)
                self.decided.single[wired.id] = decision
                decisions.append(decision)
        self._note_deadlines()
        return Plan(
            self.spec.name,
            tuple(decisions),
            tuple(self.alerts),
            self.alert_at,
            self.left_out,
            tuple(self.unread),
            tuple(self.notes),
            self.backfills.progress(self.spec, self.decided),
            self.targets,
            frozenset(self.unseen),
            self.decided.late,
        )

    def _note_deadlines(self) -> None:
        """Which targets have gone without a push for too long, and when others would have."""
        for found in PushDeadlines(self.spec, self.world, self.decided, self.left_out, self.targets).alerts():
            if isinstance(found, Alert):
                self.alerts.append(found)
            else:
                self.alert_at = min(found, self.alert_at or found)

    def _fan(self, wired: WiredPiece) -> dict[int, Decision]:
        """The decisions on the spans that a piece runs for."""
        source = wired.sources[wired.fan]
        return self.decided.by_span[source.node, source.piece]

    def _roots(self, wired: WiredPiece) -> list[Decision]:
        """Decisions on the spans of an input. The newest complete version of a span wins (TFX example_gen)."""
        fact = self.world.spans.get(wired.node)
        by_span: dict[int, Decision] = {}
        beside: list[Decision] = []  # newer versions that are not complete yet: shown, but nobody waits for them
        spans = self._wanted(wired, fact)
        for span in sorted(spans, key=lambda s: s.span, reverse=True):
            number = span.span.number
            if span.complete and number not in by_span:
                by_span[number] = self._permitted(self._root(wired, span), wired, number)
            elif not span.complete and number not in by_span:
                decision = self._incomplete(wired, span)
                if isinstance(decision, Wait) and decision.absent:
                    beside.append(decision)
                else:
                    by_span[number] = decision
                    self.unseen |= set() if outputs_of(decision) else {wired.node}
        self._note_arrivals(wired, fact, by_span)
        looks = times_in_numbers(self.spec.inputs[wired.node].pattern, list(reversed(by_span)))
        self.notes += [f"{wired.node}: {'. '.join(looks)}"] if looks else []
        self.decided.by_span[wired.id] = by_span
        if fact is None or fact.problem or not spans:
            self.unseen.add(wired.node)
            self.decided.problems[wired.node] = because = (fact.problem if fact else "") or self._nothing(wired)
            beside.append(Wait(Subject(wired.node, wired.piece.name, ""), because, stuck=bool(fact and fact.problem)))
        elif wired.node in self.decided.silent:
            beside.append(Wait(Subject(wired.node, wired.piece.name, ""), self.decided.silent[wired.node]))
        return [*beside, *by_span.values()]

    def _wanted(self, wired: WiredPiece, fact: SpansFact | None) -> list[SpanFact]:
        """The spans that there is something to decide about; what is left unread is told once for all."""
        node, name = self.spec.inputs[wired.node], wired.node
        spans: list[SpanFact] = []
        old: set[int] = set()
        keys: dict[int, list[str]] = {}
        for span in fact.spans if fact else ():
            number = span.span.number
            if unread(node, name, self.spec.name, self.world.history, number):
                old |= {number} if span.complete else set()
            else:
                spans.append(span)
                keys.setdefault(number, []).append(span_key(node.calendar, number, span.span.version))
        self.backfills.keys[name] = keys
        if old:
            self.unread.append(self._unread(wired, tuple(sorted(old))))
        return spans

    def _unread(self, wired: WiredPiece, old: tuple[int, ...]) -> Unread:
        node = self.spec.inputs[wired.node]
        first, last, start = (node.pattern.say(Span(number)) for number in (old[0], old[-1], node.start or 0))
        many = f"{len(old)} spans before {start} are" if len(old) > 1 else f"{len(old)} span before {start} is"
        reads = f"`ctd backfill {self.spec.name} {first} {last}` reads {'them' if len(old) > 1 else 'it'}"
        return Unread(wired.node, old, f"{many} not read (start); {reads}")

    def _nothing(self, wired: WiredPiece) -> str:
        node = self.spec.inputs[wired.node]
        since = f" since {node.pattern.say(Span(node.start))} (start)" if node.start is not None else ""
        return f"no span{since} has arrived yet"

    def _note_arrivals(self, wired: WiredPiece, fact: SpansFact | None, by_span: dict[int, Decision]) -> None:
        """What came too late for windows or is disputed, and whether it is long ago that anything came."""
        node, name = self.spec.inputs[wired.node], wired.node
        disputed = (n for n, d in by_span.items() if isinstance(d, Blocked) and d.outputs)
        self.decided.disputed[name] = frozenset(disputed)
        late_ones = late(node, name, self.spec.name, by_span, self.world, self._pinned(name)).items()
        found = {n: why for n, why in late_ones if not invited(self.world.history, self.spec.name, name, n)}
        self.decided.late[name] = found
        for number in found.keys() & by_span.keys():
            said = f"{by_span[number].because}; windows leave it out: {found[number]}"
            by_span[number] = replace(by_span[number], because=said)
        wrong = misnumbered(node, name, self.spec.name, by_span, found, self.world)
        self.alerts += [wrong] if wrong else []
        since = silent_from(node, name, self.spec.name, fact, self.world)
        if since is not None and since <= self.world.now:
            self.alerts.append(silence(node, name, since))
            self.decided.silent[name] = self.alerts[-1].because
        elif since is not None:
            self.alert_at = min(since, self.alert_at or since)

    def _pinned(self, name: str) -> frozenset[int]:
        """The spans of an input that windows name."""
        selects = (take.select for w in self.spec.work if w.root == name for take in w.piece.takes.values())
        return frozenset(n for select in selects if isinstance(select, Pinned) for n in select.spans)

    def _incomplete(self, wired: WiredPiece, span: SpanFact) -> Decision:
        """A span that is not complete does not exist for windows; but one that was read before is not gone either."""
        number, version = span.span.number, span.span.version
        subject = Subject(wired.node, wired.piece.name, span_key(wired.calendar, number, version))
        if not (span.passing and self._was_read(subject, span)):
            return Wait(subject, span.because, until=span.ready_at, absent=True)
        policy = self.spec.inputs[wired.node].on_change
        stays = kept(policy, self.spec.name, subject, self._identity(wired), span.because, self.world)
        if stays:
            return stays
        return Wait(subject, f"{span.because}; it was read before, so windows wait for it", until=span.ready_at)

    def _was_read(self, subject: Subject, span: SpanFact) -> bool:
        history = self.world.history
        if span.span.version is None and self.spec.inputs[subject.node].pattern.versioned:
            # The folder of all its versions is out of reach.
            done = history.successes(self.spec.name)
            return any(e.node == subject.node and e.ingredients.get("span", [])[:1] == [span.span.number] for e in done)
        tried = history.of_key(self.spec.name, subject.node, subject.piece, subject.key)
        return any(e.state is State.SUCCEEDED for e in tried)

    def _root(self, wired: WiredPiece, span: SpanFact) -> Decision:
        subject = Subject(wired.node, wired.piece.name, span_key(wired.calendar, span.span.number, span.span.version))
        if not span.digest:
            return Wait(subject, f"reading {len(span.files)} files of {span.path} for their digest", busy=True)
        ingredients = {
            **self._identity(wired),
            "content": span.digest,
            "span": [span.span.number, span.span.version],
        }
        wanted = Wanted(
            self.spec.name,
            subject,
            ingredients,
            {},
            self.spec.node(wired.node).attempts,
            new=f"new span, {span.because}",
            span=span.span.number,
            version=span.span.version,
            files=span.files,
            told=self._told(wired),
        )
        policy = self.spec.inputs[wired.node].on_change
        decision = unless_new_version(policy, wanted, self.world) or decide(wanted, self.world)
        if isinstance(decision, Run):
            return replace(decision, revision=revision(self.world.history, self.spec.name, subject, span.digest))
        return decision

    def _decide(self, wired: WiredPiece, span: int | None) -> Decision:
        problem = self._problem(wired, span)
        if problem:
            return problem
        inputs = self._inputs(wired, span)
        if wired.piece.target:
            ready = self.judging.inputs(wired) if isinstance(inputs, Held) else None
            if ready and isinstance(self._wanted_on(wired, ready, None), Reuse):
                ready = None  # a model that was lost and made again is no other one
            return self._push(wired, ready or inputs)
        decision = self._on(wired, inputs, span)
        return self._on_what_is_ready(wired, inputs, decision, span) or decision

    def _on_what_is_ready(
        self, wired: WiredPiece, inputs: Inputs | Held, decision: Decision, span: int | None
    ) -> Decision | None:
        """What else to do than what was decided: a model to judge, or data to work on, while more is on its way."""
        if model_key(wired) and (isinstance(inputs, Held) or begins(decision)):
            ready = self.judging.inputs(wired)
            judged = self._on(wired, ready, span) if ready else None
            if judged and _tells(judged):
                self.left_out.pop(decision.subject, None)
                return judged
        if not isinstance(inputs, Held) or inputs.refused:
            return None
        ready = self.coalescing.inputs(wired, span)
        run = self._wanted_on(wired, ready, span) if ready else None
        if ready is None or not isinstance(run, Run):
            return run if run and _tells(run) else None
        due = self.coalescing.in_time(self.spec.node(wired.node), wired, run, span)
        if due is None:
            return None
        if due > self.world.now:
            return replace(waits(inputs, run, due), subject=decision.subject)
        self.left_out.pop(decision.subject, None)
        return self._on(wired, ready, span)

    def _push(self, wired: WiredPiece, inputs: Inputs | Held) -> Decision:
        """The newest model goes to the target, unless it is to have another one."""
        now = {} if isinstance(inputs, Held) else inputs.artifacts
        newest = (a for taken in now.values() for a in taken if a.type is ArtifactType.MODEL)
        said = standing(self.spec.name, wired, self.world)
        candidate = next(newest, None)
        alerts = (
            alert(self.spec.name, wired, said, self.world),
            canaries.alert(self.spec.name, wired, candidate, self.world.history),
        )
        self.alerts += [found for found in alerts if found]
        held = hold(self.spec.name, wired, candidate, self.world)
        if held is None and isinstance(inputs, Held):
            held = repair(self.spec.name, wired, inputs.because, self.world)
        self.targets[wired.piece.target] = said if held is None else replace(said, hold=held.because)
        if isinstance(held, Blocked):
            return held
        decision = self._pushed(wired, inputs, held, inputs_of(held, wired, now, self.world) if held else {})
        if not live_is_damaged(self.spec.name, wired, self.world):
            return decision
        if held is None and not isinstance(decision, Run):
            decision = self._repaired(wired, decision, now)
        return replace(decision, urgent=True) if isinstance(decision, Run) else decision

    def _repaired(self, wired: WiredPiece, decision: Decision, now: Artifacts) -> Decision:
        """The live version again, while what was decided on the newest one is an approval, a failure or a pause."""
        held = repair(self.spec.name, wired, decision.because, self.world)
        if held is None:
            return decision
        pushed = inputs_of(held, wired, now, self.world)
        again = self._pushed(wired, Inputs(now, "", False, ()), held, pushed)
        return again if isinstance(again, Run) else decision

    def _pushed(self, wired: WiredPiece, inputs: Inputs | Held, held: Hold | None, artifacts: Artifacts) -> Decision:
        """The decision on the newest model, or on the one that is held, of which `artifacts` are the inputs."""
        if held is None:
            return canaries.in_turn(self.spec.name, wired, self._on(wired, inputs, None), self.world)
        wanted = self._wanted_on(wired, Inputs(artifacts, "", False, ()), None)
        decision = held.over(wanted, self.spec.name, self.world)
        return decision if held.untried else canaries.in_turn(self.spec.name, wired, decision, self.world)

    def _on(self, wired: WiredPiece, inputs: Inputs | Held, span: int | None) -> Decision:
        """What to do about a piece of work that has these inputs."""
        subject = Subject(wired.node, wired.piece.name, self._key(wired, span, inputs))
        if inputs.left_out:
            self.left_out[subject] = inputs.left_out
        if isinstance(inputs, Held):
            if inputs.refused:
                return Blocked(subject, inputs.because, failed=False)
            short = f"{inputs.short} ({wired.node} says which spans it goes without)" if inputs.short else ""
            return Wait(subject, inputs.because, stuck=inputs.stuck, follows=True, short=short)
        decision = self._wanted_on(wired, inputs, span)
        if not isinstance(decision, Run):
            return decision
        run = replace(decision, left_out=inputs.left_out) if inputs.left_out else decision
        return unless_running(run, self._permitted(self._timely(wired, run, span), wired, span), self.world)

    def _wanted_on(self, wired: WiredPiece, inputs: Inputs, span: int | None) -> Decision:
        node = self.spec.node(wired.node)
        return decide(
            Wanted(
                self.spec.name,
                Subject(wired.node, wired.piece.name, self._key(wired, span, inputs)),
                self._ingredients(wired, inputs.artifacts),
                inputs.artifacts,
                node.attempts,
                effect=wired.piece.effect,
                hasty=isinstance(node, TimedNode) and node.supersede == "running",
                new="" if span is None else "new span",
                note=inputs.note,
                shown=self.lists.told(wired, inputs.parts),
                held_up=inputs.stuck,
                span=span,
                calendars=wired.calendars,
                told=self._told(wired),
            ),
            self.world,
        )

    def _timely(self, wired: WiredPiece, run: Run, span: int | None) -> Decision:
        """The run, unless its data is disputed or its time has not come; with a word on data that is old."""
        for key in (key for key in run.inputs if wired.piece.takes[key].triggers):
            artifacts = run.inputs[key]
            root = self.resolver.root_of(wired.sources[key])
            disputed = sorted(self.decided.disputed.get(root, frozenset()).intersection(spans_of(artifacts)))
            if disputed:
                said = wired.calendar_of(key).say(disputed[0])
                because = f"{root}: span {said} changed after it was read, so nothing new is made of it"
                return Blocked(run.subject, because, failed=False)
        silent = self.decided.silent.get(wired.root or "")
        if silent and span is None:
            run = replace(run, because=f"{run.because}; {wired.root}: {silent}")
        node = self.spec.node(wired.node)
        # What follows within a node does so at once: its time was that of the first piece.
        if not isinstance(node, TimedNode) or self.spec.first[wired.node] != wired.piece.name:
            return run
        return in_time(node, run, self.spec.name, self.world)

    def _permitted(self, decision: Decision, wired: WiredPiece, span: int | None) -> Decision:
        """The decision; a run with its place in the queue, unless it may not begin."""
        if not isinstance(decision, Run):
            return decision
        if span is not None:
            tried = self.world.history.of_key(self.spec.name, *wired.id, decision.subject.key)
            renewal = any(e.state is State.SUCCEEDED for e in tried)
            decision = self.backfills.queued(wired, replace(decision, renewal=renewal), span)
        approval = self.spec.node(decision.subject.node).approval
        return permitted(decision, self.spec.name, self.world, approval=approval)

    def _problem(self, wired: WiredPiece, span: int | None) -> Blocked | None:
        """What keeps the piece from being run at all: broken code, a file or target that is not there."""
        subject = Subject(wired.node, wired.piece.name, self._key(wired, span, None))
        if wired.module:
            code = self.world.code.get(wired.module)
            if code is not None and code.problem:
                return Blocked(subject, code.problem, "Save the mended file: that alone is enough.")
        for path in wired.piece.files.values():
            file = self.world.files.get(path)
            if file is not None and file.problem:
                return Blocked(subject, file.problem, "Put the file there, or mend `path:` in the spec.")
        if wired.piece.target:
            target = self.world.targets.get(wired.piece.target)
            if target is None or target.problem:
                there = ", ".join(sorted(n for n, t in self.world.targets.items() if not t.problem)) or "none"
                because = target.problem if target else f"no target {wired.piece.target!r} is declared"
                return Blocked(subject, because, f"Declare it in the targets folder (declared: {there}).")
        return None

    def _inputs(self, wired: WiredPiece, span: int | None) -> Inputs | Held:
        return gather(wired, lambda key: self.resolver.take(wired, key, _ANY if span is None else span))

    def _identity(self, wired: WiredPiece) -> Identity:
        if wired.id not in self.identities:
            self.identities[wired.id] = self._identify(wired)
        return self.identities[wired.id]

    def _identify(self, wired: WiredPiece) -> Identity:
        kind = self.spec.node(wired.node).kind
        piece = wired.piece
        name = f"{kind}.{piece.name}" if piece.name and not piece.target else kind
        found: dict[str, Any] = {"component": f"{name}/{piece.version}", "settings": dict(piece.settings)}
        if wired.module:
            code = self.world.code[wired.module]
            found["code"] = {"strict": code.digest, "module": code.own, "pinned": "pinned"}[piece.code]
        if piece.packages:
            found["packages"] = {name: self.world.packages.get(name, "not installed") for name in piece.packages}
        if piece.files:
            found["files"] = {name: self.world.files[path].digest for name, path in piece.files.items()}
        if piece.target:
            found["target"] = dict(self.world.targets[piece.target].settings)
        return found

    def _told(self, wired: WiredPiece) -> str:
        """The identity of all that a process of this piece is told: an edit of any of it may mend what failed."""
        if wired.id not in self.told:
            code, target = self.world.code.get(wired.module or ""), self.world.targets.get(wired.piece.target)
            said = [self.spec.identities[wired.node], wired.module, code and code.digest, target and target.identity]
            self.told[wired.id] = digest_of(said)[:16]
        return self.told[wired.id]

    def _ingredients(self, wired: WiredPiece, artifacts: Artifacts) -> dict[str, Any]:
        inputs = {
            key: [[artifact.span, artifact.content(take.part)] for artifact in artifacts.get(key, ())]
            for key, take in wired.piece.takes.items()
            if take.triggers and key in wired.sources and _counts(take, artifacts.get(key, ()))
        }
        return {**self._identity(wired), "inputs": inputs}

    def _key(self, wired: WiredPiece, span: int | None, inputs: Inputs | Held | None) -> str:
        piece = wired.piece
        if span is not None:
            return self._fan(wired)[span].subject.key
        if piece.target or isinstance(inputs, Held) or inputs is None:
            return piece.name
        taken = [(key, a) for key, t in piece.takes.items() if t.triggers for a in inputs.artifacts.get(key, ())]
        # Spans that are numbered in another way than those of its root have no name among these.
        mine = (a for key, a in taken if wired.calendar_of(key).unit is wired.calendar.unit)
        spans = sorted(set(spans_of(mine)))
        other = next((f"{a.type.value.lower()} {a.label}" for _, a in taken), "")
        about = spans_key(wired.calendar, spans) if spans else other
        return " ".join(part for part in (piece.name, about) if part)
