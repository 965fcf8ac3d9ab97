"""What a backfill would do, for people."""

from __future__ import annotations

import itertools

from rich.console import Group, RenderableType
from rich.text import Text

from ctd.api.forecast import BackfillView
from ctd.cli.render import expected_row, in_all, rows_of
from ctd.cli.text import clean, counted

_MANY = 3  # spans of a node; more are one line


def backfill(view: BackfillView) -> RenderableType:
    """`ctd backfill --dry-run`: what would run for it, in the order in which it would begin."""
    head = Text(clean(view.pipeline), style="bold")
    head.append(clean(f" {view.range}, {counted(view.spans, 'span')}, {view.order} first: {in_all(view)}"), "none")
    rows: list[tuple[Text, ...]] = []
    for _, same in itertools.groupby(view.forecast, key=lambda e: (e.node, e.piece)):
        some = list(same)
        if len(some) > _MANY:
            known = [e.seconds for e in some if e.seconds is not None]
            key = f"{some[0].key} to {some[-1].key} ({len(some)})"
            some = [some[0].model_copy(update={"key": key, "seconds": sum(known) if known else None})]
        rows += map(expected_row, some)
    return Group(head, *rows_of(rows))
