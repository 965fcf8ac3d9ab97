"""The bugs that tests/planted.py plants have a place in the code as it is now."""

from __future__ import annotations

import pytest

from tests.planted import BUGS, ROOT, Bug


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_what_a_planted_bug_replaces_stands_once_in_the_code(bug: Bug) -> None:
    found = (ROOT / "ctd" / bug.file).read_text().count(bug.text)
    assert found == 1, f"ctd/{bug.file} has {found} times: {bug.text}; plant it anew where its idea lives now"
