"""A component that returns whatever its spec says, made or not."""

from __future__ import annotations

from typing import Any

from ctd.components.api import Work
from ctd.core.work import Made


def run(work: Work) -> Any:
    work.output("model")
    said: Any = work.request.spec["made"]
    return None if said is None else {key: [Made(path) for path in paths] for key, paths in said.items()}
