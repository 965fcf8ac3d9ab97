"""The daemon as it is, with a clock beside each look: `python -m bench.timed_daemon FILE run --specs ...`.

The seconds of each look at a pipeline go to FILE, a line each.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ctd.cli.main import main
from ctd.engine.reconcile import Reconciler
from ctd.planning.decisions import Plan
from ctd.specs.pipeline import PipelineSpec

_plain = Reconciler.look


def timed(file: Path) -> None:
    """Have every look of this process timed from now on."""
    output = file.open("a", buffering=1)

    def look(self: Reconciler, spec: PipelineSpec) -> Plan:
        began = time.perf_counter()
        made = _plain(self, spec)
        print(time.perf_counter() - began, file=output)
        return made

    Reconciler.look = look  # type: ignore[method-assign] # the only way to time what the daemon itself does


if __name__ == "__main__":
    timed(Path(sys.argv.pop(1)))
    main()
