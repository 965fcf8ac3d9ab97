"""Which models count as blessed where several nodes judge them: what one of them refuses is blessed by none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctd.core.artifacts import VERDICTS, Artifact, ArtifactType
from ctd.core.history import History
from ctd.specs.judges import Judges, Place

_Words = Mapping[ArtifactType, Mapping[Place, bool]]
"""What was said of a model: by kind of blessing and by who said it, in the order in which they said it last."""


def blessed_models(history: History, pipeline: str, judges: Mapping[Place, Judges]) -> Iterator[Artifact]:
    """The models that all who judge them have blessed, newest first. `judges` is by the pieces that make models."""
    asked = {place for each in judges.values() for places in each.values() for place in places}
    several = any(len(places) > 1 for each in judges.values() for places in each.values())
    if not several and history.judges(pipeline) <= asked:
        return history.blessed_models(pipeline)
    return (model for model in history.judged_models(pipeline) if _blessed(history, pipeline, model, judges))


def _blessed(history: History, pipeline: str, model: Artifact, judges: Mapping[Place, Judges]) -> bool:
    """Whether all that judge a model say yes.

    What was pushed had the yes of all that there were: who came later and has said nothing of it takes that from none.
    """
    said = _said(history, model)
    maker = history.maker(model.id)
    usual: Judges = next(iter(judges.values()), {})
    wanted = judges.get((maker.node, maker.piece), usual) if maker else usual
    yes = {kind: _yes(words, wanted.get(kind, ())) for kind, words in said.items()}
    if not yes.get(ArtifactType.MODEL_BLESSING) or not all(yes.values()):
        return False
    evaluators, heard = wanted.get(ArtifactType.MODEL_BLESSING, ()), said[ArtifactType.MODEL_BLESSING]
    return len(evaluators) < 2 or all(place in heard for place in evaluators) or _pushed(history, pipeline, model)


def _said(history: History, model: Artifact) -> _Words:
    said: dict[ArtifactType, dict[Place, bool]] = {}
    for e in history.verdicts(model):
        for a in (a for made in e.outputs.values() for a in made if a.type in VERDICTS):
            if history.live(a) and a.properties.get("current_model_id") == model.id:
                words = said.setdefault(a.type, {})
                words.pop((e.node, e.piece), None)  # said again it is the last of all
                words[e.node, e.piece] = a.blessed
    return said


def _yes(words: Mapping[Place, bool], wanted: Sequence[Place]) -> bool:
    """What those of the spec in force say; of others, which may have been renamed since, only the last word counts."""
    mine = [words[place] for place in wanted if place in words]
    return all(mine) if mine else [*words.values()][-1]


def _pushed(history: History, pipeline: str, model: Artifact) -> bool:
    made = history.maker(model.id)
    for target in history.targets(pipeline):
        for e in history.pushes(pipeline, target, withdrawn=True):
            if made is not None and e.id < made.id:
                break
            if model.id in e.inputs.get("model", ()):
                return True
    return False
