"""Answers about what would be done: forecasts, supposed edits and data, rehearsed backfills."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ctd.api.lineage import RetentionView
from ctd.api.models import DecisionView, View


class ExpectedView(View):
    """One piece of work that a forecast says would be done, and what it took so far (nothing: never seen)."""

    node: str
    piece: str
    key: str
    because: str
    seconds: float | None = None
    # It would not run if the results of these nodes came out as they were before.
    cut_off_if_same: list[str] = Field(default=[])


class ForecastView(View):
    """All that would be done if everything went well; the decisions are those of the first step."""

    pipeline: str
    decisions: list[DecisionView]
    forecast: list[ExpectedView]
    seconds: float  # the sum of what is known
    held: list[DecisionView] = Field(default=[])  # what would wait or be blocked even then
    removes: RetentionView | None = None  # results that need not stay any more then


class BackfillView(ForecastView):
    """What a backfill would do (`ctd backfill --dry-run`): the work in the order in which it would begin."""

    range: str
    order: Literal["newest", "oldest"]
    spans: int  # that are there
