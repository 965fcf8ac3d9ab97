"""Answers about what is known: status, plan, explain, as the read models of `api`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ctd.api.health import PipelineState, worst
from ctd.api.lineage import LineageQuery, LineageView, ModelDiffView, ReachView, RetentionView
from ctd.api.models import (
    DaemonView,
    ExecutionView,
    ExplainView,
    LiveView,
    NodeState,
    NodeView,
    ObstacleView,
    PipelineView,
    PlanView,
    ProblemView,
    RequestView,
    StatusView,
)
from ctd.api.times import TimesView
from ctd.core.calendars import NUMBERS
from ctd.core.errors import NotFound
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest
from ctd.core.troubles import Trouble
from ctd.daemon.ancestry import Ancestry, leftovers_view, retention_view
from ctd.daemon.explanation import Explanation, left_out_views, of_execution
from ctd.daemon.leftovers import staying, without_spec
from ctd.daemon.ranges import backfill_views, notes
from ctd.daemon.times import times_view
from ctd.daemon.troubles import trouble_views
from ctd.daemon.wanted import Wanted
from ctd.engine.collect import kept_by
from ctd.planning.asked import own_pause
from ctd.planning.canaries import live, trial
from ctd.planning.condition import condition
from ctd.planning.decisions import AlertKind, Blocked, Decision, Plan, Reuse, Run, Standing, Wait
from ctd.planning.retention import Collect, collectable, orphaned
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem
from ctd.specs.targets import canary_piece
from ctd.storage.layout import StateDir

_URGENCY = ("failed", "blocked", "running", "queued", "waiting", "up to date")
_SHOWN = 20  # executions in an explanation


@dataclass(frozen=True)
class Views:
    """Answers for one daemon, or for a state directory that no daemon works on."""

    wanted: Wanted
    history: History
    state: StateDir
    plans: Callable[[], Mapping[str, Plan]]
    progress: Callable[[int], str]
    strays: Callable[[str], tuple[str, ...]]
    daemon: Callable[[], DaemonView | None]
    faults: Callable[[], Mapping[str, str]] = dict  # of ctd's own, by pipeline
    troubles: Callable[[], Iterable[Trouble]] = tuple

    def status(self, pipeline: str | None = None) -> StatusView:
        """All pipelines, or one."""
        wanted = self.wanted.pipelines
        if pipeline is not None:
            wanted = {pipeline: self._spec(pipeline)}
        files = {self.wanted.file_of(name) for name in self.wanted.pipelines}
        lost = [p for path, found in self.wanted.problems.items() if path not in files for p in found]
        return StatusView(
            daemon=self.daemon(),
            troubles=trouble_views(self.troubles()),
            pipelines=[self._pipeline(spec) for _, spec in sorted(wanted.items())],
            problems=problem_views(lost),
            notes=list(without_spec(self.wanted.pipelines, self.history)) if pipeline is None else [],
        )

    def plan(self, pipeline: str) -> PlanView:
        """The plan as it was made last."""
        self._spec(pipeline)
        why = self._why(pipeline)
        made = why.plan
        return PlanView(
            pipeline=pipeline,
            decisions=why.decisions(),
            alerts=_alerts(made),
            backfills=backfill_views(made),
            notes=notes(made),
        )

    def explain(self, pipeline: str, node: str | None = None, execution: int | None = None) -> ExplainView:
        """Why a node (or all) did what it did; or one execution, however old."""
        self.known(pipeline, node or "")
        why = self._why(pipeline)
        if execution is not None:
            return self._explained(why, node, execution)
        decisions = [v for v in why.decisions() if node in (None, v.node)]
        executions = [e for e in self.history.of_pipeline(pipeline) if node in (None, e.node)]
        asked = [r for r in self.history.requests(pipeline) if node is None or r.node in ("", node)]
        return ExplainView(
            pipeline=pipeline,
            node=node or "",
            decisions=decisions,
            executions=[self._execution(e) for e in executions[-_SHOWN:]],
            ingredients=dict(executions[-1].ingredients) if node and executions else {},
            requests=[request_view(r) for r in asked[-_SHOWN:]],
            causes=why.causes(node),
            why_not=why.why_not(node) if node else [],
        )

    def _explained(self, why: Explanation, node: str | None, number: int) -> ExplainView:
        pipeline, one = why.spec.name, self.execution(number)
        found = self.history.execution(number)
        if found is None or one.pipeline != pipeline or node not in (None, one.node):
            raise NotFound(
                f"execution {number} is not one of {'/'.join(filter(None, (pipeline, node)))}",
                hint=f"Ask `ctd explain {one.pipeline} {one.node} --execution {number}`.",
            )
        return ExplainView(
            pipeline=pipeline,
            node=node or "",
            decisions=[d for d in why.decisions() if (d.node, d.piece, d.key) == (one.node, one.piece, one.key)],
            executions=[one],
            ingredients=dict(found.ingredients),
            causes=[of_execution(found, why.spec, self.history)],
        )

    def _why(self, pipeline: str) -> Explanation:
        spec = self._spec(pipeline)
        return Explanation(spec, self.plans().get(pipeline) or Plan(pipeline, ()), self.history)

    def execution(self, number: int) -> ExecutionView:
        """One execution, however old."""
        execution = self.history.execution(number)
        if execution is None:
            raise NotFound(f"there is no execution {number}", hint="`ctd status` and `ctd explain` show their numbers.")
        return self._execution(execution)

    def times(self, pipeline: str, execution: int | None = None) -> TimesView:
        """Where the seconds of the last push went, or of the way to one execution."""
        return times_view(self.known(pipeline), self.history, execution)

    def lineage(self, pipeline: str, asked: LineageQuery) -> LineageView | ReachView | ModelDiffView:
        """Where a model came from, what a span went into, or why two models differ."""
        return Ancestry(self.known(pipeline), self.history, self._execution).answer(asked)

    def removable(self, pipeline: str, *, gone: bool = False) -> RetentionView:
        """What retention would remove now; with `gone`, what nobody makes any more."""
        if gone:
            spec = self.wanted.pipelines.get(pipeline)
            return leftovers_view(pipeline, self.orphans(pipeline), self.history, spec.calendars if spec else {})
        spec, made = self.known(pipeline), self.plans().get(pipeline)
        found = collectable(spec, made, self.history, self._pushed) if made else ()
        notes = staying(spec, made, self.history, self._pushed)
        return retention_view(spec, found, self.history, removed=False, notes=notes)

    def orphans(self, pipeline: str) -> tuple[Collect, ...]:
        """What is left of nodes that the spec has no longer, or of a pipeline without a spec."""
        spec = self._spec_or_none(pipeline)
        return orphaned(pipeline, spec, self.plans().get(pipeline), self.history, self._pushed)

    def _spec_or_none(self, pipeline: str) -> PipelineSpec | None:
        """The spec; none of a pipeline that there was."""
        there = self.wanted.pipelines.get(pipeline) is None and self.history.count(pipeline)
        return None if there else self._spec(pipeline)

    @property
    def _pushed(self) -> Mapping[str, int]:
        return kept_by(self.wanted.targets)

    def known(self, pipeline: str, node: str = "") -> PipelineSpec:
        """The spec of a pipeline that is there and has the node."""
        return with_node(self._spec(pipeline), node)

    def _spec(self, pipeline: str) -> PipelineSpec:
        spec = self.wanted.pipelines.get(pipeline)
        if spec is None:
            there = sorted(self.wanted.pipelines)
            raise NotFound(
                f"there is no pipeline {pipeline!r}", hint=f"{did_you_mean(pipeline, there)}Pipelines: {listed(there)}."
            )
        return spec

    def _pipeline(self, spec: PipelineSpec) -> PipelineView:
        made = self.plans().get(spec.name)
        decisions = made.decisions if made else ()
        refused, faults = self.wanted.problems_of(spec.name), tuple(self._faults(spec.name))
        return PipelineView(
            pipeline=spec.name,
            file=self.wanted.file_of(spec.name),
            state=_state_of(made, refused=bool(refused), fault=bool(faults)),
            working=made is None or not made.settled,
            nodes=[
                self._node(spec, name, [d for d in decisions if d.subject.node == name]) for name in _in_order(spec)
            ],
            live=[self._live(spec.name, target) for target in spec.targets],
            problems=problem_views([*refused, *faults]),
            fault=bool(faults),
            strays=list(self.strays(spec.name)),
            pauses=list(self._pauses(spec)),
            suggestions=list(Explanation(spec, made, self.history).suggestions()) if made else [],
            alerts=_alerts(made) if made else [],
            backfills=backfill_views(made),
            notes=[*notes(made), *staying(spec, made, self.history, self._pushed)],
        )

    def _node(self, spec: PipelineSpec, node: str, decisions: list[Decision]) -> NodeView:
        pieces = {w.piece.name for w in spec.work if w.node == node}
        latest = [e for piece in pieces if (e := self.history.latest(spec.name, node, piece))]
        execution = max(latest, key=lambda e: e.id, default=None)
        worst = min(decisions, key=lambda d: _URGENCY.index(state_word(d)), default=None)
        return NodeView(
            node=node,
            kind=spec.node(node).kind,
            state=state_word(worst) if worst else "waiting",
            because=_because(worst, decisions) if worst else "not looked at yet",
            hint=worst.hint if isinstance(worst, Blocked) else "",
            latest=self._execution(execution) if execution else None,
        )

    def _pauses(self, spec: PipelineSpec) -> Iterator[str]:
        for node in ("", *spec.nodes):
            pause = own_pause(self.history, spec.name, node)
            if pause:
                yield f"{node or spec.name} is paused {pause.said}"

    def _faults(self, pipeline: str) -> Iterator[Problem]:
        because = self.faults().get(pipeline)
        if because:
            hint = "This is a fault of ctd: please report it with the traceback in its log. It is tried again."
            yield Problem(self.wanted.file_of(pipeline), 1, 1, f"it cannot be planned: {because}", hint)

    def _live(self, pipeline: str, target: str) -> LiveView:
        declared = self.wanted.targets.get(target)
        if declared is None:
            return LiveView(target=target, path="", problem=f"no target {target!r} is declared")
        path = declared.base_path(pipeline)
        execution = live(self.history, pipeline, target)
        made = self.plans().get(pipeline)
        overdue = _overdue(made, target)
        if execution is None:
            return LiveView(
                target=target, path=path, kind=declared.kind, problem="nothing was pushed yet", overdue=overdue
            )
        (pushed,) = execution.output("pushed_model")
        standing = made.targets.get(target, Standing()) if made else Standing()
        return LiveView(
            target=target,
            path=path,
            kind=declared.kind,
            version=int(pushed.properties["pushed_version"]),
            model=next(iter(execution.inputs.get("model", ())), None),
            verified=bool(pushed.properties.get("verified", 0)),
            pushed=_time(execution.ended),
            because=execution.because,
            hold=standing.hold,
            canary=self._canary(pipeline, target),
            problem=standing.trouble,
            overdue=overdue,
        )

    def _canary(self, pipeline: str, target: str) -> str:
        """`version 8 (model #71) on trial as canary: baking 3m of 10m: ...`; nothing where none is."""
        push = trial(self.history, pipeline, target)
        if push is None:
            return ""
        (pushed,) = push.output("pushed_model")
        said = (
            f"version {pushed.properties['pushed_version']} (model #{pushed.properties.get('model_id')}) on trial as "
        )
        said += str(pushed.properties["label"])
        watch = self.history.latest(pipeline, push.node, canary_piece(target))
        progress = self.progress(watch.id) if watch and watch.state is State.RUNNING else ""
        return f"{said}: {progress}" if progress else said

    def _execution(self, e: Execution) -> ExecutionView:
        running, spec = e.state is State.RUNNING, self.wanted.pipelines.get(e.pipeline)
        return ExecutionView(
            execution=e.id,
            pipeline=e.pipeline,
            node=e.node,
            piece=e.piece,
            key=e.key,
            state=e.state.value,
            attempt=e.attempt,
            because=e.because,
            started=e.started.isoformat(),
            ended=_time(e.ended),
            seconds=e.took.total_seconds() if e.took else None,
            error=e.failure.message if e.failure else "",
            hint=e.failure.hint if e.failure else "",
            progress=self.progress(e.id) if running else "",
            result=e.result,
            timings=dict(e.timings),
            left_out=left_out_views(e.left_out, spec.calendars.get(e.node, NUMBERS) if spec else NUMBERS),
            log=str(self.state.log(e.id)),
        )


def with_node(spec: PipelineSpec, node: str) -> PipelineSpec:
    """The spec, if it has the node."""
    if node and node not in spec.nodes:
        hint = f"{did_you_mean(node, spec.nodes)}It has {listed(spec.nodes)}."
        raise NotFound(f"pipeline {spec.name} has no node {node!r}", hint=hint)
    return spec


def _because(worst: Decision, decisions: list[Decision]) -> str:
    """The reason of the most urgent of a node's decisions, and how many are like it."""
    alike = sum(1 for d in decisions if state_word(d) == state_word(worst))
    if isinstance(worst, Reuse) and alike > 1:
        return f"all {alike} results are there"
    said = f"{worst.subject.key}: {worst.because}" if worst.subject.key else worst.because
    return f"{said} (and {alike - 1} more)" if alike > 1 else said


def request_view(request: OperatorRequest, obstacles: Iterable[ObstacleView] = ()) -> RequestView:
    """A request as the outside sees it."""
    r = request
    return RequestView(
        request=r.id,
        verb=r.verb.value,
        pipeline=r.pipeline,
        node=r.node,
        key=r.key,
        execution=r.execution or None,
        again=r.again,
        reason=r.reason,
        who=r.who,
        at=r.at.isoformat(),
        baseline=r.baseline,
        obstacles=list(obstacles),
    )


def memory_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _alerts(made: Plan) -> list[str]:
    return [f"{a.node}: {a.because}. {a.hint}" for a in made.alerts]


def _overdue(made: Plan | None, target: str) -> str | None:
    alerts = (a for a in (made.alerts if made else ()) if a.kind is AlertKind.OVERDUE and a.target == target)
    return _time(next((a.since for a in alerts), None))


def state_word(decision: Decision) -> NodeState:
    """The state of a node whose work this decision is about."""
    match decision:
        case Run():
            return "queued"
        case Reuse():
            return "up to date"
        case Wait() if decision.queued:
            return "queued"
        case Wait():
            return "running" if decision.running else ("failed" if decision.stuck and decision.until else "waiting")
        case Blocked():
            return "failed" if decision.failed else "blocked"


def _state_of(made: Plan | None, *, refused: bool, fault: bool) -> PipelineState:
    found: list[PipelineState] = [condition(made).value if made else "working"]
    found += ["invalid"] if refused else []
    found += ["failed"] if fault else []
    return worst(found)


def _in_order(spec: PipelineSpec) -> list[str]:
    return list(dict.fromkeys(w.node for w in spec.work))


def problem_views(found: Iterable[Problem]) -> list[ProblemView]:
    return [ProblemView.model_validate(vars(p)) for p in found]


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
