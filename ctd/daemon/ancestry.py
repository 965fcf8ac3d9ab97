"""Answers about lineage and retention, as the read models of `api`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ctd.api.lineage import (
    ArtifactView,
    CollectedView,
    ComparedModelView,
    DifferenceView,
    LineageQuery,
    LineageView,
    ModelDiffView,
    PushView,
    ReachView,
    ReadSpanView,
    RetentionView,
    SpansDifferenceView,
    StepView,
    VerdictView,
)
from ctd.api.models import ExecutionView
from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.errors import NotFound
from ctd.core.executions import Execution
from ctd.core.history import History
from ctd.core.spans import span_name
from ctd.daemon.comparison import compared_metrics
from ctd.daemon.span_names import span_among, written
from ctd.planning.lineage import (
    Lineage,
    SpansDifference,
    Step,
    difference,
    lineage,
    pushed_model,
    reach,
    spans,
    spans_difference,
    verdicts,
)
from ctd.planning.reasons import ranges_said
from ctd.planning.retention import Collect, keeps
from ctd.specs.hints import listed
from ctd.specs.pipeline import PipelineSpec


@dataclass(frozen=True)
class Ancestry:
    """Lineage within one pipeline; `show` makes an execution's own view."""

    spec: PipelineSpec
    history: History
    show: Callable[[Execution], ExecutionView]

    @property
    def pipeline(self) -> str:
        return self.spec.name

    def answer(self, asked: LineageQuery) -> LineageView | ReachView | ModelDiffView:
        """Whichever of the three was asked for. Raises NotFound."""
        if asked.span is not None:
            return self.forward(str(asked.span))
        if asked.before or asked.after:
            return self.difference(self.model(asked.target, asked.before), self.model(asked.target, asked.after))
        return self.back(self.model(asked.target, asked.version), deep=asked.deep)

    def back(self, model: Artifact, *, deep: bool = False) -> LineageView:
        found = lineage(self.history, model, deep=deep)
        return LineageView(
            pipeline=self.pipeline,
            model=self._artifact(model),
            pushes=[self._push(e) for e in found.pushes],
            verdicts=self._verdicts(model),
            spans=[_span(e, self.spec) for e in spans(found.made)],
            made=[self._step(step) for step in found.made],
            judged=[self._step(step) for step in found.judged],
        )

    def forward(self, said: str) -> ReachView:
        calendars = {name: node.calendar for name, node in self.spec.inputs.items()}
        if written(said).version is not None:
            hint = f"Ask about all its versions: --span {said.rpartition('.v')[0]}."
            raise NotFound(f"{said} is one version of a span", hint=hint)
        span, label, inputs = span_among(calendars, said, self.pipeline)
        found = reach(self.history, self.pipeline, span, inputs)
        if not found.executions:
            hint = f"`ctd explain {self.pipeline}` shows what was read."
            raise NotFound(f"span {label} of {self.pipeline} was never read", hint=hint)
        outputs = [(e, a) for e in found.executions for made in e.outputs.values() for a in made]
        return ReachView(
            pipeline=self.pipeline,
            span=span,
            label=label,
            executions=[self.show(e) for e in found.executions],
            models=[self._artifact(a) for _, a in outputs if a.type is ArtifactType.MODEL],
            versions=[self._push(e) for e, a in outputs if a.type is ArtifactType.PUSHED_MODEL],
        )

    def difference(self, before: Artifact, after: Artifact) -> ModelDiffView:
        old, new = lineage(self.history, before), lineage(self.history, after)
        calendars = {w.id: {**w.calendars, "": w.calendar} for w in self.spec.work}
        metrics, missing = compared_metrics(self.history, before, after)
        return ModelDiffView(
            pipeline=self.pipeline,
            before=self._artifact(before),
            after=self._artifact(after),
            differences=[
                DifferenceView(
                    node=d.node,
                    piece=d.piece,
                    key=d.key,
                    before=d.before or None,
                    after=d.after or None,
                    changes=list(d.changes),
                )
                for d in difference(old, new, calendars)
            ],
            metrics=metrics,
            metrics_missing=missing,
            spans=[_spans_view(d, self.spec.calendars.get(d.node, NUMBERS)) for d in spans_difference(old, new)],
            about_before=self._compared(old),
            about_after=self._compared(new),
        )

    def _compared(self, found: Lineage) -> ComparedModelView:
        pushes = [self._push(e) for e in found.pushes]
        return ComparedModelView(pushes=pushes, verdicts=self._verdicts(found.model))

    def _verdicts(self, model: Artifact) -> list[VerdictView]:
        return [
            VerdictView(
                node=e.node,
                piece=e.piece,
                blessed=said.blessed,
                reason=str(said.properties.get("reason", "")),
                execution=e.id,
            )
            for e, said in verdicts(self.history, model)
        ]

    def model(self, target: str, said: str) -> Artifact:
        """The model of a version on a target (`3`), of an artifact's number (`#17`), or the one pushed last."""
        if said.startswith("#") and said[1:].isdecimal():
            artifact, maker = self.history.artifact(int(said[1:])), self.history.maker(int(said[1:]))
            if artifact and maker and (artifact.type, maker.pipeline) == (ArtifactType.MODEL, self.pipeline):
                return artifact
            raise NotFound(
                f"{self.pipeline} has no model {said}", hint="`ctd status` shows the numbers of live models."
            )
        if said and not said.isdecimal():
            raise NotFound(f"{said!r} is no version", hint="Say a version, such as 3, or a model, such as '#17'.")
        pushes = self._pushes(target, said)
        found = pushed_model(self.history, pushes[0]) if pushes else None
        if found is None:
            what = f"version {said}" if said else "model"
            where = f"on {target}" if target else "on any target"
            hint = f"Targets that got one so far: {listed(self.history.targets(self.pipeline))}."
            raise NotFound(f"there is no {what} of {self.pipeline} {where}", hint=hint)
        return found

    def _pushes(self, target: str, version: str) -> list[Execution]:
        """Newest first. Raises NotFound where several targets have the version and none is named."""
        targets = [target] if target else self.history.targets(self.pipeline)
        every = bool(version)  # one that was taken back as a canary is asked about in particular
        found = [e for name in targets for e in self.history.pushes(self.pipeline, name, withdrawn=every)]
        found = [e for e in found if not version or str(self._push(e).version) == version]
        models = {self._push(e).model for e in found}
        if version and len(models) > 1 and len({e.piece for e in found}) > 1:
            raise NotFound(f"version {version} is another model on each target", hint=f"Name one: {listed(targets)}.")
        return sorted(found, key=lambda e: e.id, reverse=True)

    def _push(self, execution: Execution) -> PushView:
        model = pushed_model(self.history, execution)
        (pushed,) = execution.output("pushed_model")
        return PushView(
            target=execution.piece,
            version=int(pushed.properties["pushed_version"]),
            model=model.id if model else 0,
            execution=execution.id,
            pushed=execution.ended.isoformat() if execution.ended else None,
        )

    def _step(self, step: Step) -> StepView:
        return StepView(
            execution=self.show(step.execution),
            ingredients=dict(step.execution.ingredients),
            inputs=self._artifacts(step.taken),
            back=self._artifacts(step.back),
            outputs=self._artifacts(step.execution.outputs),
        )

    def _artifacts(self, artifacts: Artifacts) -> dict[str, list[ArtifactView]]:
        return {key: [self._artifact(a) for a in taken] for key, taken in artifacts.items()}

    def _artifact(self, artifact: Artifact) -> ArtifactView:
        return artifact_view(artifact, self.history, self.spec.calendars)


def retention_view(
    spec: PipelineSpec, found: Iterable[Collect], history: History, *, removed: bool, notes: Iterable[str] = ()
) -> RetentionView:
    """What was removed, or would be."""
    return leftovers_view(spec.name, found, history, spec.calendars).model_copy(
        update={"keeps": keeps(spec), "removed": removed, "notes": list(notes)}
    )


def leftovers_view(
    pipeline: str, found: Iterable[Collect], history: History, calendars: Mapping[str, Calendar]
) -> RetentionView:
    """What would be removed of what nobody makes any more. `calendars` are those of nodes that there still are."""
    return RetentionView(
        pipeline=pipeline,
        keeps=False,
        removed=False,
        results=[
            CollectedView(
                node=c.execution.node,
                key=c.execution.key,
                artifact=artifact_view(c.artifact, history, calendars),
                because=c.because,
            )
            for c in found
        ],
    )


def artifact_view(artifact: Artifact, history: History, calendars: Mapping[str, Calendar]) -> ArtifactView:
    """An artifact as the outside sees it."""
    maker = history.maker(artifact.id)
    calendar = calendars.get(maker.node, NUMBERS) if maker else NUMBERS
    named = artifact.span is not None and f"span {span_name(calendar, artifact.span, artifact.version)}"
    return ArtifactView(
        artifact=artifact.id,
        type=artifact.type.value,
        label=named or artifact.label,
        span=artifact.span,
        version=artifact.version,
        digest=artifact.digest,
        uri=artifact.uri,
        deleted=not history.live(artifact),
    )


def _span(execution: Execution, spec: PipelineSpec) -> ReadSpanView:
    number, version = execution.ingredients["span"]
    content = str(execution.ingredients.get("content", ""))
    label = span_name(spec.calendars.get(execution.node, NUMBERS), number, version)
    return ReadSpanView(
        node=execution.node, span=number, version=version, content=content, execution=execution.id, label=label
    )


def _spans_view(d: SpansDifference, calendar: Calendar) -> SpansDifferenceView:
    new, left = sorted(set(d.after) - set(d.before)), sorted(set(d.before) - set(d.after))
    told = (("new", new), ("left", left), ("corrected", d.corrected))
    changes = [f"{ranges_said(calendar, some)} {word}" for word, some in told if some]
    before, after = (ranges_said(calendar, numbers) for numbers in (d.before, d.after))
    return SpansDifferenceView(
        node=d.node,
        before=list(d.before),
        after=list(d.after),
        new=new,
        left=left,
        corrected=list(d.corrected),
        label=f"{before} -> {after}: {', '.join(changes) or 'the same'}",
    )
