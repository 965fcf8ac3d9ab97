"""A look at a pipeline: observe, plan, and see whether the results that the plan rests on are still whole."""

from __future__ import annotations

from collections.abc import Mapping

from ctd.core.history import History
from ctd.engine.intact import Intact, places
from ctd.engine.observe import Observer
from ctd.planning.decided import used
from ctd.planning.decisions import Plan
from ctd.planning.plan import plan
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget


def look(observer: Observer, spec: PipelineSpec, targets: Mapping[str, AnyTarget], history: History) -> Plan:
    """The plan for the world as it is."""
    return look_closely(spec, observer.observe(spec, targets, history), observer.intact)[1]


def look_closely(spec: PipelineSpec, world: World, intact: Intact) -> tuple[World, Plan]:
    """The world with what is lost from disk, and the plan for it.

    Only what the plan uses is looked for on disk, and what history has besides costs nothing. What is lost makes
    another plan, whose results are looked for in turn: it ends, since each round finds some more of them lost.
    """
    seen: set[str] = set()
    world = intact.known(world)
    while True:
        made = plan(spec, world)
        new = {place: artifact for artifact in used(made) for place in places(artifact) if place not in seen}
        lost = intact.losses(new)
        if not lost:
            return world, made
        seen |= new.keys()
        world = lost.seen_in(world)
