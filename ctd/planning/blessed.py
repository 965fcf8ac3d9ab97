"""Which models count as blessed where several nodes judge them: what one of them refuses is blessed by none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.history import History
from ctd.specs.judges import Judges, Place


def blessed_models(history: History, pipeline: str, judges: Mapping[Place, Judges]) -> Iterator[Artifact]:
    """The models that all who judge them have blessed, newest first. `judges` is by the pieces that make models.

    Where one node judges, the newest verdict counts, whoever gave it: the node may have had another name then.
    """
    if all(len(places) < 2 for each in judges.values() for places in each.values()):
        return history.blessed_models(pipeline)
    return (model for model in history.judged_models(pipeline) if _blessed(history, pipeline, model, judges))


def _blessed(history: History, pipeline: str, model: Artifact, judges: Mapping[Place, Judges]) -> bool:
    """Whether all that judge a model say yes.

    What was pushed had the yes of all that there were: who came later and has said nothing of it takes that from none.
    """
    said: dict[ArtifactType, dict[Place, bool]] = {}
    for e in history.verdicts(model):
        for blessing in (a for made in e.outputs.values() for a in made):
            if history.live(blessing) and blessing.properties.get("current_model_id") == model.id:
                of_kind = said.setdefault(blessing.type, {})
                of_kind.pop((e.node, e.piece), None)  # the last word is the last of all
                of_kind[e.node, e.piece] = blessing.blessed
    maker = history.maker(model.id)
    usual: Judges = next(iter(judges.values()), {})
    wanted = judges.get((maker.node, maker.piece), usual) if maker else usual
    yes = {kind: _yes(words, wanted.get(kind, ())) for kind, words in said.items()}
    if not yes.get(ArtifactType.MODEL_BLESSING) or not all(yes.values()):
        return False
    evaluated = said[ArtifactType.MODEL_BLESSING]
    return all(place in evaluated for place in wanted.get(ArtifactType.MODEL_BLESSING, ())) or _pushed(
        history, pipeline, model
    )


def _yes(said: Mapping[Place, bool], wanted: Sequence[Place]) -> bool:
    """What those of the spec in force say; of others, which may have been renamed since, only the last word counts."""
    mine = [said[place] for place in wanted if place in said]
    return all(mine) if mine else [*said.values()][-1]


def _pushed(history: History, pipeline: str, model: Artifact) -> bool:
    pushes = (e for target in history.targets(pipeline) for e in history.pushes(pipeline, target, withdrawn=True))
    return any(model.id in e.inputs.get("model", ()) for e in pushes)
