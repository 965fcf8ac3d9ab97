"""The answers of `ctd ... --json` and of the daemon's socket. Other people's scripts depend on these names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from ctd.api.health import PipelineState, worst
from ctd.api.requests import VerbName
from ctd.core.troubles import TroubleKind

NodeState = Literal["up to date", "running", "queued", "waiting", "blocked", "failed"]


class View(BaseModel):
    """Read only, built by the daemon."""

    model_config = ConfigDict(frozen=True)


class ProblemView(View):
    """Something wrong in a spec or target file."""

    file: str
    line: int
    column: int = 1
    message: str
    hint: str = ""
    warning: bool = False  # the file is used all the same


class LeftOutView(View):
    """A span that a window went without, and why.

    `kind`: not complete, on its way, failed, denied, late, quarantined or refused (which holds the window up).
    """

    span: int
    kind: str
    why: str
    label: str = ""  # the span as people write it


class ExecutionView(View):
    """One attempt of a node."""

    execution: int
    pipeline: str
    node: str
    piece: str
    key: str
    state: str
    attempt: int
    because: str
    started: str
    ended: str | None = None
    seconds: float | None = None
    error: str = ""
    hint: str = ""
    progress: str = ""
    result: str = ""
    timings: dict[str, float] = {}
    left_out: list[LeftOutView] = []  # spans that its windows went without
    log: str = ""


class ObstacleView(View):
    """What keeps a request from having its effect at once, and what to do about that.

    `kind`: late, denied, changed, out of reach, paused, or the state of a validator that has not decided.
    """

    kind: str
    why: str
    hint: str = ""


class RequestView(View):
    """Something that a person asked for."""

    request: int
    verb: VerbName
    pipeline: str
    node: str = ""
    key: str = ""
    execution: int | None = None
    again: bool = False
    reason: str = ""
    who: str
    at: str
    baseline: bool = False  # of an accepted span: later ones are compared with it
    obstacles: list[ObstacleView] = []  # what stands in its way as things are


class RequestsView(View):
    """What was recorded: one request for each node, execution or piece of work concerned."""

    requests: list[RequestView]


class DecisionView(View):
    """One decision of a plan."""

    node: str
    piece: str
    key: str
    action: Literal["run", "reuse", "wait", "blocked"]
    because: str
    hint: str = ""
    failed: bool = False
    until: str | None = None
    execution: int | None = None
    attempt: int | None = None
    left_out: list[LeftOutView] = []
    cut_off: list[str] = []  # of what is reused: inputs that were made anew with equal content, so that nothing follows


class OpenBackfillView(View):
    """A backfill that has spans to go."""

    request: int
    node: str = ""
    range: str
    order: Literal["newest", "oldest"]
    again: bool
    spans: int  # of the range that are there
    done: int
    failed: int
    reason: str = ""
    who: str
    at: str


class PlanView(View):
    """What there is to do about a pipeline."""

    pipeline: str
    decisions: list[DecisionView]
    alerts: list[str] = []  # as in `PipelineView`
    backfills: list[OpenBackfillView] = []
    notes: list[str] = []  # all is as the spec says, and worth knowing: spans before `start`


class NodeView(View):
    """A node's state in a word, the reason, and its latest execution."""

    node: str
    kind: str
    state: NodeState
    because: str = ""
    hint: str = ""
    latest: ExecutionView | None = None


class LiveView(View):
    """The version that a target has of a pipeline's model."""

    target: str
    path: str
    kind: str = ""  # of the target; nothing if it is not declared
    version: int | None = None
    model: int | None = None  # the artifact's id
    verified: bool | None = None
    pushed: str | None = None  # when
    because: str = ""  # why it was pushed
    hold: str = ""  # what keeps newer models away: a pin, or a rollback
    canary: str = ""  # the version that is on trial beside it, and how far that is
    problem: str = ""
    overdue: str | None = None  # since when data is there that should have been pushed within `push_within`


class PipelineView(View):
    """One pipeline as `ctd status` shows it.

    Its state is the worst that somebody has to act on (`ctd.api.health`): what waits for a person is told although
    ctd is at work on something else.
    """

    pipeline: str
    file: str
    state: PipelineState
    working: bool = False  # something runs, or will by itself, whatever the state says
    nodes: list[NodeView]
    live: list[LiveView]
    problems: list[ProblemView] = []  # of an edit that was refused; the last good spec goes on
    fault: bool = False  # the last of `problems` is not the file's: ctd itself cannot go on with it
    strays: list[str] = []
    pauses: list[str] = []  # in force: what is paused, by whom, and why
    suggestions: list[str] = []  # commands for what waits for someone: to accept a span, to approve
    alerts: list[str] = []  # nothing failed, but something is not as it should be: a source that is silent
    backfills: list[OpenBackfillView] = []
    notes: list[str] = []


class TroubleView(View):
    """What is wrong with the means of the daemon or of a command: store, disk, lock, socket, log. No pipeline's fault.

    It goes on by itself when the cause is gone.
    """

    kind: TroubleKind
    place: str  # a path, or whose results they are
    because: str
    hint: str = ""
    since: str | None = None  # nothing where no daemon runs that would have looked before


class DaemonView(View):
    """The daemon itself; absent when a command reads the state directory while no daemon runs."""

    pid: int
    started: str
    epoch: int
    starting: bool = False  # it waits for what it needs, and knows no pipelines yet
    watching: dict[str, str] = {}  # what is not watched by events, and why
    memory_mb: float | None = None


class StatusView(View):
    """Everything `ctd status` shows."""

    daemon: DaemonView | None
    troubles: list[TroubleView] = []  # what somebody has to act on before all else
    pipelines: list[PipelineView]
    problems: list[ProblemView] = []  # of files that never were good
    notes: list[str] = []  # worth knowing: pipelines that have results, and no spec any more

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> PipelineState:
        """The worst of all there is."""
        lost: list[PipelineState] = ["invalid"] if any(not p.warning for p in self.problems) else []
        return worst([*lost, *(pipeline.state for pipeline in self.pipelines)])


class ValidationView(View):
    """What `ctd validate` checked and found."""

    pipelines: list[str]  # names of those in order
    targets: list[str]
    problems: list[ProblemView]


class CauseView(View):
    """A reason in a chain of them, with the reasons behind it.

    What ran is `ran`, `running` or `to run`. Root causes are of `kind` span, version, content, setting, code, file,
    component, asked, lost, again, attempt and first; `input changed`, `input new` and `input left` lead on to the
    `execution` that made the input, compared with the one it is `against`. What does not run is reused, cut off,
    waits, paused, not due, refused, failed or needs approval; its windows name what was left out.
    """

    kind: str
    said: str
    node: str = ""
    piece: str = ""
    key: str = ""
    execution: int | None = None
    against: int | None = None
    name: str = ""  # of the setting, file, input or verb
    spans: list[int] = []
    before: str | None = None  # value or digest
    after: str | None = None
    at: str | None = None
    until: str | None = None
    hint: str = ""
    causes: list[CauseView] = []


class ExplainView(View):
    """Why a node's work was done or not: the decision, what it is made of, and the executions before."""

    pipeline: str
    node: str
    decisions: list[DecisionView]
    executions: list[ExecutionView]
    ingredients: dict[str, Any] = {}
    requests: list[RequestView] = []
    causes: list[CauseView] = []  # why it ran, or is to run: the chain up to what set it off
    why_not: list[CauseView] = []  # why work of the node does not run
