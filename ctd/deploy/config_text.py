"""A model config file as text: where its entries are, and whether ours is there, without the libraries to parse it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | [{}<>] | [^\s{}<>\[\]:,;"'\#]+""", re.VERBOSE
)
ENTRY = ["model_config_list", "config"]


def labels_something(text: str, model: str, label: str) -> bool:
    """Whether the entry of a model has a label, as far as a look can tell."""
    ours = (of for begin, end in blocks(text) if model in (of := _words(text[begin:end])))
    return any(label in words for words in ours)


def blocks(text: str) -> list[tuple[int, int]]:
    """Where each model's entry is, braces included, in the order of the file."""
    return [(begin, end) for path, begin, end in messages(text) if path == ENTRY]


def _words(text: str) -> frozenset[str]:
    """The strings in a text."""
    return frozenset(said[1:-1] for token in _TOKEN.finditer(text) if (said := token.group())[0] in "\"'")


def messages(text: str) -> Iterator[tuple[list[str], int, int]]:
    """The messages in a text proto, inner ones first: the names of the fields that lead there, begin and end."""
    open_: list[tuple[str, int]] = []
    name = ""
    for token in _TOKEN.finditer(text):
        said = token.group()
        if said in ("{", "<"):
            open_.append((name, token.start()))
        elif said in ("}", ">"):
            if not open_:
                return
            name, begin = open_.pop()  # in a list, `[{..}, {..}]`, the next one has the same name
            yield [*(outer for outer, _ in open_), name], begin, token.end()
        elif said[0] not in "#\"'":
            name = said
