"""The index of history: fed by each write it knows what it would know had it been built at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from planning_steps import apply, histories
from planning_world import Bench

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.history import History


def blessed_by_looking_at_everything(history: History, pipeline: str) -> list[Artifact]:
    """The rule without an index: verdicts of all executions, oldest first, the last one counts."""
    verdicts: dict[tuple[int, ArtifactType], bool] = {}
    for execution in history.of_pipeline(pipeline):
        for artifacts in execution.outputs.values():
            for artifact in artifacts:
                model = artifact.properties.get("current_model_id")
                if isinstance(model, int) and history.live(artifact):
                    verdicts[model, artifact.type] = artifact.blessed
    yes = [m for (m, type_), ok in verdicts.items() if ok and type_ is ArtifactType.MODEL_BLESSING]
    models = (
        history.artifact(m) for m in sorted(yes, reverse=True) if verdicts.get((m, ArtifactType.INFRA_BLESSING), True)
    )
    return [m for m in models if m is not None and history.live(m)]


def answers(history: History) -> Iterator[Any]:
    """Everything that a look asks."""
    yield list(history)
    yield list(history.blessed_models("taxi"))
    yield [e.id for e in history.of_pipeline("taxi")]
    yield [e.id for e in history.pushes("taxi", "serving")]
    yield history.targets("taxi")
    yield list(history.deleted())
    for e in history:
        place = (e.pipeline, e.node, e.piece)
        yield history.tried(*place, e.fingerprint), history.of_key(*place, e.key), list(history.of_place(*place))
        yield history.latest(*place), history.latest_success(*place)
        for artifacts in e.outputs.values():
            yield [(history.artifact(a.id), history.maker(a.id), history.live(a)) for a in artifacts]


class Moods(dict[str, bool]):
    """Verdicts that come as they come."""

    def __init__(self, said: list[bool]) -> None:
        super().__init__()
        self._said = itertools.cycle(said)

    def get(self, key: str, default: Any = None) -> Any:
        return next(self._said)


@settings(max_examples=60, deadline=None)
@given(histories(), st.lists(st.integers(0, 60), max_size=8), st.lists(st.booleans(), min_size=1, max_size=6))
def test_the_index_fed_by_each_write_is_the_index_built_anew(
    steps: list[tuple[Any, ...]], deleted: list[int], verdicts: list[bool]
) -> None:
    bench = Bench(verdicts=Moods(verdicts))
    for step, which in itertools.zip_longest(steps, deleted[: len(steps)]):
        apply(bench, step)
        artifacts = [a for e in bench.history for made in e.outputs.values() for a in made]
        if which is not None and artifacts:
            bench.store.delete_artifact(artifacts[which % len(artifacts)])
        for artifact_id in bench.store.deleted_artifacts():
            bench.history.forget_artifact(artifact_id)
    rebuilt = History(bench.store.executions())
    for artifact_id in bench.store.deleted_artifacts():
        rebuilt.forget_artifact(artifact_id)
    assert list(answers(bench.history)) == list(answers(rebuilt))
    assert list(rebuilt.blessed_models("taxi")) == blessed_by_looking_at_everything(rebuilt, "taxi")
