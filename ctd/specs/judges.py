"""Who judges the models of a pipeline, and whose yes they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import Latest
from ctd.specs.base import Piece
from ctd.specs.wired import Source, WiredPiece

Place = tuple[str, str]
Judges = Mapping[T, Sequence[Place]]
"""Pieces by the kind of blessing that they give."""

BLESSINGS = (T.MODEL_BLESSING, T.INFRA_BLESSING)


def judges_of(work: Sequence[WiredPiece]) -> Mapping[Place, Judges]:
    """By the piece that makes models, those who judge them: whom pushers ask, or of a kind that none asks for, all."""
    takers: dict[Place, list[WiredPiece]] = {}
    for wired in work:
        model = model_of(wired.piece, wired.sources)
        if model:
            takers.setdefault((model.node, model.piece), []).append(wired)
    return {maker: {kind: tuple(_judges(kind, mine)) for kind in BLESSINGS} for maker, mine in takers.items()}


def _judges(kind: T, mine: Sequence[WiredPiece]) -> Iterator[Place]:
    asked = {
        (wired.sources[key].node, wired.sources[key].piece)
        for wired in mine
        for key, take in wired.piece.takes.items()
        if take.must_be_blessed and take.type is kind and key in wired.sources
    }
    return (w.id for w in mine if kind in w.piece.makes.values() and (w.id in asked or not asked))


def model_of(piece: Piece, sources: Mapping[str, Source]) -> Source | None:
    """Where a piece has the latest model from, if it takes that."""
    for key, take in piece.takes.items():
        if take.type is T.MODEL and isinstance(take.select, Latest) and key in sources:
            return sources[key]
    return None
