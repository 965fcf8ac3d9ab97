"""What one request is about, within its pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from ctd.api.models import ObstacleView
from ctd.core.requests import Order


@dataclass(frozen=True)
class About:
    """The fields of a request that say what it concerns."""

    node: str
    key: str = ""
    span: int | None = None
    identity: str = ""
    execution: int = 0
    last: int | None = None
    order: Order | None = None
    obstacles: tuple[ObstacleView, ...] = ()  # what keeps it from having its effect at once
