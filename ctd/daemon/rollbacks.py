"""Rollbacks of targets, checked against what was pushed there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctd.api.requests import RequestForm
from ctd.core.errors import NotFound, NotPossible
from ctd.core.executions import Execution
from ctd.daemon.about import About
from ctd.daemon.views import Views
from ctd.planning.holds import in_force, one_before, pushes_to, version_of
from ctd.planning.lineage import pushed_model
from ctd.planning.world import TargetFact
from ctd.specs.hints import did_you_mean, listed


@dataclass(frozen=True)
class Rollbacks:
    """Raises NotFound for targets and versions that are not there, NotPossible for what makes no sense now."""

    views: Views

    def asked(self, form: RequestForm) -> Iterator[About]:
        """A rollback, to a version or to the model before the live one."""
        node, target = self._place(form)
        if target.pin:
            raise NotPossible(
                f"target {target.name} is pinned to version {target.pin}",
                hint="Its file is what counts: write another version there, or take `pin` out and ask again.",
            )
        pushes = list(pushes_to(self.views.history, form.pipeline, target))
        if not pushes:
            raise NotPossible(
                f"nothing of {form.pipeline} was pushed to {target.name} yet", hint="It has nothing to go back from."
            )
        back = self._back(form, node, target, pushes)
        model, live = (pushed_model(self.views.history, push) for push in (back, pushes[0]))
        if model is None or not self.views.history.live(model):
            raise NotPossible(
                f"the model of version {version_of(back)} is no longer there",
                hint=f"Retention removed it (`keep` of its node). Others: {_versions(pushes)}.",
            )
        if live is not None and live.digest == model.digest:
            raise NotPossible(
                f"version {version_of(pushes[0])} is that model already",
                hint=f"Name another with `--to`: {_versions(pushes)}.",
            )
        yield About(node, target.name, identity=str(back.id), execution=pushes[0].id)

    def released(self, form: RequestForm) -> Iterator[About]:
        """The end of all rollbacks of a target."""
        node, target = self._place(form)
        if not in_force(self.views.history, form.pipeline, node, target.name):
            raise NotPossible(
                f"target {target.name} of {form.pipeline} was not rolled back",
                hint=f"`ctd status {form.pipeline}` shows what is live.",
            )
        yield About(node, target.name)

    def _place(self, form: RequestForm) -> tuple[str, TargetFact]:
        """The node that pushes there, and the target where it is now."""
        spec = self.views.known(form.pipeline)
        nodes = [w.node for w in spec.work if w.piece.target == form.target]
        declared = self.views.wanted.targets.get(form.target)
        if not nodes or declared is None:
            there = sorted(spec.targets)
            raise NotFound(
                f"{form.pipeline} pushes to no target {form.target!r}",
                hint=f"{did_you_mean(form.target, there)}Targets: {listed(there)}.",
            )
        settings = declared.settings(form.pipeline)
        return nodes[0], TargetFact(form.target, settings, pin=declared.pin_of(form.pipeline))

    def _back(self, form: RequestForm, node: str, target: TargetFact, pushes: list[Execution]) -> Execution:
        if form.version is not None:
            found = next((push for push in pushes if version_of(push) == form.version), None)
            if found is None:
                hint = f"Pushed were {_versions(pushes)}."
                raise NotFound(f"{form.pipeline} never pushed a version {form.version} to {target.name}", hint=hint)
            return found
        before = one_before(self.views.history, form.pipeline, node, target)
        if before is None:
            hint = "Only one model was ever pushed there, or all were rolled back from: name one with `--to`."
            raise NotPossible(f"there is no model before version {version_of(pushes[0])} to go back to", hint=hint)
        return before


def _versions(pushes: list[Execution]) -> str:
    return listed([str(v) for v in sorted({version_of(push) for push in pushes})])
