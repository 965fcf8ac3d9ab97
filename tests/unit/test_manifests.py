"""What manifests say, and what is refused in them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.manifests import Listed, ManifestError, lacking, parse_manifest

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("name", "text", "listed"),
    [
        pytest.param(
            "MANIFEST.json",
            json.dumps({"files": [{"name": "a.csv", "size": 5, "sha256": A, "rows": 7}, {"name": "b.csv", "size": 0}]}),
            [Listed("a.csv", 5, A), Listed("b.csv", 0)],
            id="JSON",
        ),
        pytest.param("M.json", f'[{{"name": "./x/a.csv", "sha256": "{A.upper()}"}}]', [Listed("x/a.csv", None, A)]),
        pytest.param("M.json", '{"files": []}', [], id="a span of nothing"),
        pytest.param("M", '\n {"files": []}', [], id="JSON by its content"),
        pytest.param(
            "MANIFEST.sha256", f"{A}  b.csv\n{B} *a b.csv\n", [Listed("a b.csv", None, B), Listed("b.csv", None, A)]
        ),
        pytest.param(
            "M", f"# made by hand\r\n\r\n{A}  ./a.csv\r\n", [Listed("a.csv", None, A)], id="comments, Windows"
        ),
        pytest.param("M", f"SHA256 (a.csv) = {A}\n", [Listed("a.csv", None, A)], id="sha256sum --tag"),
        pytest.param("M", f"\\{A}  a\\nb\\\\c\n", [Listed("a\nb\\c", None, A)], id="an escaped name"),
        pytest.param(
            "M.sha256", f"{A}  a.csv\n{B}  M.sha256\n", [Listed("a.csv", None, A)], id="itself is passed over"
        ),
    ],
)
def test_both_forms_are_read(name: str, text: str, listed: list[Listed]) -> None:
    assert parse_manifest(text, name) == tuple(listed)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("M.json", "", "is not JSON"),
        ("M.json", '{"files": [{"name": "a.csv", "si', "is it still being written?"),
        ("M", "[" * 100_000, "is not JSON"),
        ("M.json", '{"parts": []}', "has no list of files"),
        ("M.json", '{"files": ["a.csv"]}', "has an entry without a name: a.csv"),
        ("M.json", '[{"name": "a.csv"}]', "says neither size nor sha256 of a.csv"),
        ("M.json", '[{"name": "a.csv", "size": "5"}]', "its size is '5', which is no number of bytes"),
        ("M.json", '[{"name": "a.csv", "size": true}]', "its size is True"),
        ("M.json", '[{"name": "a.csv", "size": -1}]', "its size is -1"),
        ("M.json", '[{"name": "a.csv", "sha256": "md5"}]', "its sha256 is 'md5', which is not 64 hexadecimal digits"),
        ("M.json", '[{"name": "a", "size": 1}, {"name": "./a", "size": 1}]', "lists a twice"),
        ("M.json", '[{"name": "../a", "size": 1}]', "lists ../a, which is outside of the span"),
        ("M.json", '[{"name": "x/../../a", "size": 1}]', "outside of the span"),
        ("M.json", '[{"name": "/etc/passwd", "size": 1}]', "outside of the span"),
        ("M.json", '[{"name": "./", "size": 1}]', "which is no name of a file"),
        ("M.json", '[{"name": "a\\u0000b", "size": 1}]', "which is no name of a file"),
        ("M", " \n", "is empty"),
        ("M", f"{A}  a.csv\n{B}  b.c", "has no end of its last line"),
        ("M", f"{A}  a.csv\nhello\n", "has a line 2 that is no checksum with a name: hello"),
        ("M", f"{A}  ../a.csv\n", "outside of the span"),
        ("M", f"{A}  a\n{B}  a\n", "lists a twice"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_reason(name: str, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(said)):
        parse_manifest(text, name)


@given(st.text(max_size=80) | st.text(st.sampled_from('{}[]":,filesnamsz0a/.\n '), max_size=60))
def test_any_text_is_a_manifest_of_paths_inside_or_refused(text: str) -> None:
    for name in ("M.json", "M.sha256"):
        with contextlib.suppress(ManifestError):
            for file in parse_manifest(text, name):
                assert not file.name.startswith("/")
                assert ".." not in file.name.split("/")


def test_what_sha256sum_writes_is_read(tmp_path: Path) -> None:
    names = ["a.csv", "b c.csv", "d\\e.csv", "f\ng.csv"]
    for name in names:
        (tmp_path / name).write_text(name)
    for flags in ([], ["--tag"], ["--binary"]):
        done = subprocess.run(["sha256sum", *flags, *names], cwd=tmp_path, capture_output=True, check=True, text=True)
        assert [file.name for file in parse_manifest(done.stdout, "M.sha256")] == names


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3))


@given(SIZES, SIZES)
def test_nothing_lacks_exactly_when_all_is_there_with_its_size(said: dict[str, int], there: dict[str, int]) -> None:
    listed = tuple(Listed(name, size) for name, size in said.items())
    assert (lacking(listed, there) == ()) == (said.items() <= there.items())


def test_what_lacks_is_named() -> None:
    listed = (Listed("a", 5), Listed("b", 7), Listed("c", None, A))
    assert lacking(listed, {"b": 3, "c": 1}) == ("a is missing", "b has 3 of 7 bytes")
