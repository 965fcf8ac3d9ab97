"""A warm template whose imports wait for files, so that a test knows how far they are."""

from __future__ import annotations

from ctd.engine.template import Stage, main

STAGED = {
    "staged": (
        Stage("early", ("ctd.specs.nodes",)),
        Stage("middle", ("tests.contract.imports.waits_for_middle", "tests.contract.imports.waits_for_late")),
        Stage("late", ("tests.contract.imports.late",)),
    ),
    "half": (Stage("early", ("ctd.specs.nodes",)), Stage("late", ("tests.contract.imports.fails",))),
}

if __name__ == "__main__":
    main(STAGED)
