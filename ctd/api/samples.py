"""A request that the live model answers, as `ctd request --json` shows it."""

from __future__ import annotations

from typing import Any

from ctd.api.models import View


class RestView(View):
    """A request over REST."""

    url: str
    body: dict[str, Any]


class RequestView(View):
    """A request that a model answers, for REST and gRPC, and how it came about."""

    pipeline: str
    target: str
    version: int
    model: str  # its name on the server
    signature: str
    row: dict[str, Any]  # the values that are sent, by column or input
    filled: list[str]  # those that --row did not name: from a real example
    notes: list[str]
    rest: RestView
    curl: str
    python: str
    serve: str  # starts a server for it, where the target's file names none
