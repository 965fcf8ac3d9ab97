"""What counts as a change of the user's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.core.timing import ManualClock
from ctd.storage.code import CodeReader
from ctd.storage.code_deps import code_dep_fact
from ctd.storage.digests import FileDigests

MODULE = '''"""Doc."""
import numpy
import words
from deep.inner import table
from deep import other as renamed


def run_fn(args):
    """Says what."""
    from lazy import late
    return words.ALL, table.T, renamed, late  # why
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A module with neighbours, packages below it, and files that it does not import."""
    files = {
        "taxi.py": MODULE,
        "words.py": "ALL = 1\n",
        "deep/__init__.py": "",
        "deep/other.py": "O = 1\n",
        "deep/unused.py": "U = 1\n",
        "deep/inner/__init__.py": "from . import shared\n",
        "deep/inner/shared.py": "from ..far import F\n",
        "deep/inner/table.py": "from .shared import F\nT = 1\n",
        "deep/far.py": "F = 1\n",
        "lazy.py": "import importlib\nlate = importlib.import_module('plug.in')\n",
        "plug/in.py": "P = 1\n",
        "beside.py": "B = 1\n",
        "numpy_notes.txt": "no code",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(tree: Path) -> str:
    return CodeReader().read(str(tree / "taxi.py")).digest


def test_the_files_are_the_module_and_all_it_imports_from_its_tree(tree: Path) -> None:
    fact = CodeReader().read(str(tree / "taxi.py"))
    assert fact.problem == ""
    assert [str(Path(file).relative_to(tree)) for file in fact.files] == [
        "deep/__init__.py",
        "deep/far.py",
        "deep/inner/__init__.py",
        "deep/inner/shared.py",
        "deep/inner/table.py",
        "deep/other.py",
        "lazy.py",
        "plug/in.py",
        "taxi.py",
        "words.py",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("taxi.py", "# why", "# because", id="a comment"),
        pytest.param("taxi.py", '"""Says what."""', '"""Says something else."""', id="a docstring"),
        pytest.param("taxi.py", '"""Doc."""', "", id="no docstring"),
        pytest.param("taxi.py", "    return words.ALL,", "\n\n    return (words.ALL),", id="formatting"),
        pytest.param("deep/far.py", "F = 1", "F  =  1  # far", id="formatting far below"),
        pytest.param("beside.py", "B = 1", "B = 2", id="a neighbour that is not imported"),
        pytest.param("deep/unused.py", "U = 1", "U = 2", id="a part of a package that is not imported"),
        pytest.param("numpy_notes.txt", "no", "some", id="a file that is no code"),
    ],
)
def test_what_means_the_same_has_the_same_digest(tree: Path, file: str, old: str, new: str) -> None:
    before = digest(tree)
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new))
    assert digest(tree) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("taxi.py", "table.T", "table.F", id="the module"),
        pytest.param("words.py", "1", "2", id="a neighbour"),
        pytest.param("deep/__init__.py", "", "X = 1", id="a package on the way"),
        pytest.param("deep/other.py", "1", "2", id="from package import module"),
        pytest.param("deep/inner/table.py", "1", "2", id="a sub-package"),
        pytest.param("deep/inner/shared.py", "far import F", "far import F as G", id="a relative import"),
        pytest.param("deep/far.py", "1", "2", id="a relative import two levels up"),
        pytest.param("lazy.py", "late", "early", id="an import inside a function"),
        pytest.param("plug/in.py", "1", "2", id="import_module with a literal, no __init__"),
        pytest.param("words.py", "ALL = 1", "'''ALL = 1'''", id="code that becomes a docstring"),
    ],
)
def test_what_means_something_else_has_another_digest(tree: Path, file: str, old: str, new: str) -> None:
    before = digest(tree)
    text = (tree / file).read_text()
    (tree / file).write_text(text.replace(old, new, 1))
    assert digest(tree) != before


def test_a_module_that_comes_into_being_where_an_import_looks_counts(tree: Path) -> None:
    before = digest(tree)
    (tree / "numpy.py").write_text("")
    assert digest(tree) != before


@pytest.mark.parametrize(
    ("file", "text", "data"),
    [
        pytest.param("words.py", 'ALL = open(Path(__file__).parent / "words.txt")', "words.txt", id="beside it"),
        pytest.param(
            "words.py", 'ALL = open(HERE + "deep/data/my words-2.csv")', "deep/data/my words-2.csv", id="below"
        ),
        pytest.param("deep/far.py", 'F = read("far.json")', "deep/far.json", id="beside what is imported"),
    ],
)
def test_a_file_that_the_code_names_counts_from_when_it_is_there(tree: Path, file: str, text: str, data: str) -> None:
    (tree / file).write_text(text)
    seen = [digest(tree)]
    (tree / data).parent.mkdir(exist_ok=True)
    for content in (b"cash", b"\xff card"):
        (tree / data).write_bytes(content)
        seen.append(digest(tree))
    assert len(set(seen)) == 3
    assert str(tree / data) in CodeReader().read(str(tree / "taxi.py")).files


@pytest.mark.parametrize("name", ["../elsewhere.txt", "/etc/hosts.conf", "deep", "beside.py", "words.txt\n"])
def test_other_strings_name_no_files_of_the_tree(tree: Path, name: str) -> None:
    (tree.parent / "elsewhere.txt").write_text("")
    (tree / "words.txt").write_text("")
    (tree / "words.py").write_text(f"ALL = {name!r}\n")
    files = CodeReader().read(str(tree / "taxi.py")).files
    assert {Path(f).suffix for f in files} == {".py"}
    assert str(tree / "beside.py") not in files


def test_a_big_file_that_the_code_names_is_not_read(tree: Path) -> None:
    (tree / "words.py").write_text('ALL = "words.txt"\n')
    with (tree / "words.txt").open("wb") as file:
        file.truncate(1 << 30)
    before = digest(tree)
    with (tree / "words.txt").open("r+b") as file:
        file.truncate((1 << 30) + 1)
    assert digest(tree) != before


def test_a_star_takes_the_whole_package(tree: Path) -> None:
    (tree / "words.py").write_text("from deep import *\n")
    files = CodeReader().read(str(tree / "taxi.py")).files
    assert str(tree / "deep/unused.py") in files


def test_the_same_tree_elsewhere_has_the_same_digest(tree: Path) -> None:
    before = digest(tree)
    moved = tree.parent / f"{tree.name}-moved"
    tree.rename(moved)
    assert digest(moved) == before


def test_a_module_inside_a_package_reaches_the_whole_package(tree: Path) -> None:
    table = tree / "deep/inner/table.py"
    table.write_text("from deep import other\nfrom ..far import F\n")
    fact = CodeReader().read(str(table))
    assert {str(Path(f).relative_to(tree)) for f in fact.files} >= {"deep/other.py", "deep/far.py", "deep/__init__.py"}


def test_imports_above_the_tree_and_circles_do_no_harm(tree: Path) -> None:
    (tree / "words.py").write_text("import taxi\nfrom ... import x\nfrom . import y\nimport os.path\n")
    fact = CodeReader().read(str(tree / "taxi.py"))
    assert fact.problem == ""
    assert str(tree / "words.py") in fact.files


def test_a_syntax_error_is_a_problem_with_its_line_and_every_byte_counts(tree: Path) -> None:
    (tree / "taxi.py").write_text("x = 1\ndef run_fn(:\n")
    fact = CodeReader().read(str(tree / "taxi.py"))
    assert fact.problem == f"{tree}/taxi.py:2: invalid syntax"
    (tree / "taxi.py").write_text("x = 1\ndef run_fn(: # still\n")
    assert CodeReader().read(str(tree / "taxi.py")).digest not in ("", fact.digest)


def test_a_syntax_error_in_an_imported_file_names_that_file(tree: Path) -> None:
    (tree / "deep/far.py").write_text("\n\nF = = 1\n")
    assert CodeReader().read(str(tree / "taxi.py")).problem == f"{tree}/deep/far.py:3: invalid syntax"


@pytest.mark.parametrize(
    "text", [b"x = '\xff'\n", b"\0", b"x = 1\0", b"(" * 5000, b"-" * 100_000 + b"1", b"# coding: nonsense\n"]
)
def test_what_python_cannot_read_is_a_problem_and_raises_nothing(tree: Path, text: bytes) -> None:
    (tree / "taxi.py").write_bytes(text)
    fact = CodeReader().read(str(tree / "taxi.py"))
    assert fact.problem.startswith(f"{tree}/taxi.py:")
    assert fact.digest


def test_a_doubtful_escape_is_no_business_of_ours(tree: Path) -> None:
    (tree / "taxi.py").write_text("x = '\\d'\n")
    assert CodeReader().read(str(tree / "taxi.py")).problem == ""


def test_a_module_that_is_not_there_is_a_problem(tree: Path) -> None:
    assert CodeReader().read(str(tree / "gone.py")).problem == f"module {tree}/gone.py does not exist"
    assert CodeReader().read(str(tree / "deep")).problem == f"module {tree}/deep is not a file"


def test_one_reader_sees_edits_of_the_same_size_in_the_same_moment(tree: Path) -> None:
    reader = CodeReader()
    seen = set()
    for i in range(9):
        (tree / "words.py").write_text(f"ALL = {i}\n")
        seen.add(reader.read(str(tree / "taxi.py")).digest)
    assert len(seen) == 9


@pytest.mark.parametrize("named", ["deep", "deep/**/*", "deep/**/*.*"])
def test_named_folders_and_globs_count_python_by_meaning_and_all_else_by_bytes(tree: Path, named: str) -> None:
    def digest() -> str:
        fact = code_dep_fact(str(tree / named), FileDigests(ManualClock()), CodeReader())
        assert fact.problem == ""
        return fact.digest

    (tree / "deep/query.sql").write_text("select 1")
    (tree / "deep/inner/broken.py").write_text("{{ a template }")
    before = digest()
    for left in (
        "__pycache__/far.cpython-310.pyc", "inner/__pycache__/x.py", "far.pyc", ".far.py.swp", "far.py~", ".#far.py",
        "#far.py#", "4913", ".ipynb_checkpoints/far.py", "query.sql.tmp",
    ):  # fmt: skip
        (tree / "deep" / left).parent.mkdir(parents=True, exist_ok=True)
        (tree / "deep" / left).write_text("left there")
    (tree / "deep/far.py").write_text('"""Said."""\nF   = 1  # why\n')
    assert digest() == before
    for name, text in {
        "far.py": "F = 2\n",
        "query.sql": "select 2",
        "inner/broken.py": "{{ a template }}",
        "_private.py": "P = 1\n",
    }.items():
        (tree / "deep" / name).write_text(text)
        assert digest() != before, name
        before = digest()


def test_a_hidden_file_that_is_named_itself_counts(tree: Path) -> None:
    (tree / ".env").write_text("A=1")
    before = code_dep_fact(str(tree / ".env"), FileDigests(ManualClock()), CodeReader())
    (tree / ".env").write_text("A=2")
    after = code_dep_fact(str(tree / ".env"), FileDigests(ManualClock()), CodeReader())
    assert (before.problem, after.problem) == ("", "")
    assert before.digest != after.digest
