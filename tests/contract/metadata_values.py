"""Values of every kind that may be recorded, for properties of metadata stores."""

from __future__ import annotations

from hypothesis import strategies as st

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Failure, Outcome, State

# Names of our own properties are fields of an artifact; all others are free.
OWN = {"span", "version", "digest", "tfx_version", "is_external", "split_names"}
VALUES = st.text() | st.integers() | st.floats(allow_nan=False)
ARTIFACTS = st.builds(
    Artifact,
    type=st.sampled_from(ArtifactType),
    uri=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    digest=st.text("0123456789abcdef"),
    span=st.none() | st.integers(-(2**31), 2**31),
    version=st.none() | st.integers(0, 2**31),
    properties=st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda n: n not in OWN), VALUES)
    | st.just({"split_names": '["train"]', "is_external": 1}),
)
JSON = st.recursive(
    st.none() | st.booleans() | VALUES.filter(lambda v: v not in (float("inf"), -float("inf"))), st.lists
)
OUTCOMES = st.builds(
    Outcome,
    state=st.sampled_from([s for s in State if s.final]),
    outputs=st.dictionaries(st.text("abc", min_size=1), st.lists(ARTIFACTS, max_size=3).map(tuple), max_size=3),
    failure=st.none() | st.builds(Failure, *[st.text()] * 4, retryable=st.booleans()),
    timings=st.dictionaries(st.text("abc"), st.floats(0, 1e9)),
)
INGREDIENTS = st.dictionaries(st.text(), JSON)
