"""Where the spans of an ExampleGen arrive: one pattern, or one for each split of data that is split already."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from ctd.core.overlaps import shared_path
from ctd.core.spans import SpanPattern
from ctd.specs.base import Complaint, Name, SpecPath


def _is_pattern(text: str) -> str:
    SpanPattern.parse(text)
    return text


def _shape(said: Any) -> str:
    return "[splits]" if isinstance(said, Mapping) else "[one]"


PatternPath = Annotated[SpecPath, AfterValidator(_is_pattern)]

Input = Annotated[
    Annotated[PatternPath, Tag("[one]")] | Annotated[dict[Name, PatternPath], Field(min_length=1), Tag("[splits]")],
    Discriminator(_shape),
]
"""A pattern, or a mapping of splits to patterns."""


def patterns_of(said: str | Mapping[str, str]) -> Mapping[str, SpanPattern]:
    """The patterns by split; of the split "" where there is only one."""
    return {split: SpanPattern.parse(text) for split, text in ({"": said} if isinstance(said, str) else said).items()}


def about_patterns(patterns: Mapping[str, SpanPattern]) -> Iterator[Complaint]:
    """What is wrong with the patterns of several splits: they name spans in different ways, or the same files."""
    first, *others = patterns
    for split in others:
        if set(patterns[split].tokens) != set(patterns[first].tokens):
            message = f"{split} has {_tokens(patterns[split])}, but {first} has {_tokens(patterns[first])}"
            hint = "Use the same tokens in the paths of all splits: a span must be found in each of them."
            yield Complaint(message, hint, ("input", split))
        same = next((other for other in patterns if patterns[other].text == patterns[split].text), split)
        if same != split:
            hint = "Name other files, or write one path for all and let `splits` deal the examples."
            yield Complaint(f"{split} and {same} read the same files", hint, ("input", split))


def about_overlaps(inputs: Mapping[str, Mapping[str, SpanPattern]]) -> Iterator[Complaint]:
    """Files that two nodes would both read by different patterns. The same pattern twice is meant: read in two ways."""
    for (one, mine), (other, theirs) in itertools.combinations(inputs.items(), 2):
        for split, pattern in theirs.items():
            shared = ((p, shared_path(p, pattern)) for p in mine.values() if p.text != pattern.text)
            for p, path in shared:
                if path is not None:
                    at = ("nodes", other, "input", *([split] if split else []))
                    message = f"nodes.{other} and nodes.{one} would both read {path}, by {pattern.text} and by {p.text}"
                    hint = (
                        "Name folders or files that only one of them fits, for instance by a width such as {SPAN:4}; "
                        "or write the same path in both if both are to read the same data."
                    )
                    yield Complaint(message, hint, at)


def _tokens(pattern: SpanPattern) -> str:
    return " and ".join(f"{{{token}}}" for token in pattern.tokens) or "no token"
