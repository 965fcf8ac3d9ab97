"""What the documents promise of the tests is so."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from ctd.specs.complain import problems_of
from ctd.specs.document import Document, parse_document
from ctd.specs.nodes import AnyNode
from ctd.specs.pipeline import UNWIRED, PipelineSpec
from ctd.specs.targets import AnyTarget

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


DOCUMENTS = [
    "README.md",
    *sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]),
]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
KINDS = get_args(get_args(AnyNode)[0])


def blocks() -> Iterator[Any]:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 2
            yield pytest.param(found[1], id=f"{name}:{line}")


def kind_with(keys: set[str]) -> str:
    """The first kind of node that has all these keys."""
    (kind,) = get_args(next(k for k in KINDS if keys <= k.model_fields.keys()).model_fields["kind"].annotation)
    return str(kind)


def whole(block: str) -> tuple[str, Any]:
    """What a block is part of, as text, and its model: a pipeline, or a target."""
    first = next(line for line in block.splitlines() if line.strip() and not line.startswith("#"))
    indent = len(first) - len(first.lstrip())
    keys = set(parse_document(textwrap.dedent(block), "block").value)
    if indent == 0 and not keys & {"pipeline", "target"}:
        block = f"target: serving\nkind: tf_serving\npath: serving\n{block}"
    if indent == 4:
        block = f"  node:\n    kind: {kind_with(keys)}\n{block}"
    if indent:
        block = f"pipeline: clicks\nmodule: clicks.py\nnodes:\n{block}"
    return block, AnyTarget if "target" in keys_of(block) else PipelineSpec


def keys_of(text: str) -> set[str]:
    return set(parse_document(text, "block").value)


def complaints(document: Document, model: Any, *, wired: bool) -> list[str]:
    """What is wrong with it; in a part of a spec, keys may be missing, and nodes that others need."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    context = {"base": "/specs", **({} if wired else {UNWIRED: True})}
    try:
        adapter.validate_json(json.dumps(document.value), strict=True, context=context)
    except ValidationError as error:
        return [str(p.problem) for p in problems_of(error, document, model) if wired or not p.missing]
    return []


@pytest.mark.parametrize("block", blocks())
def test_every_piece_of_yaml_in_the_documents_is_a_spec_or_a_part_of_one(block: str) -> None:
    text, model = whole(block)
    assert complaints(parse_document(text, "block"), model, wired=text == block) == []


def test_the_documents_have_such_pieces() -> None:
    assert len(list(blocks())) > 20
