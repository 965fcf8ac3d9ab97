"""What the documents promise of the tests is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)::(\w+)`")
DOCUMENT = ROOT / "docs/pains.md"


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(DOCUMENT.read_text()))), ids="::".join)
def test_every_test_that_the_table_of_pains_names_is_there(named: tuple[str, str]) -> None:
    file, name = named
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_table_of_pains_names_a_test() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "Held by" not in line]
    assert len(rows) >= 20
    assert [row for row in rows if not NAMED.search(row)] == []
