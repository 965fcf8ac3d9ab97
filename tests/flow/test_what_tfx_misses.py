"""What makes work run again and what does not: the cases in which TFX's cache is measured to be wrong, and more.

TFX 1.16 runs everything again for the first three and the touched file, and nothing for the sub-package, the schema's
content, and data edited within the same second and size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flow.bench import Bench

CODE = "from tools.lines import clean\n\n\ndef run_fn(fn_args):\n    return clean(fn_args)\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").touch()
    (tmp_path / "tools/lines.py").write_text("def clean(x):\n    return x\n")
    (tmp_path / "model.py").write_text(CODE)
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries/a.sql").write_text("select 1")
    bench.spec()
    bench.span(1, "fare\n1\n")
    bench.start().settle()
    return bench


def edit_spec(bench: Bench, old: str, new: str) -> None:
    spec = bench.root / "specs/taxi.yaml"
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new))


def runtime_settings(bench: Bench) -> None:
    edit_spec(bench, "{kind: trainer, ", "{kind: trainer, timeout: 3h, attempts: 7, ")


def unrelated_file(bench: Bench) -> None:
    (bench.root / "other.py").write_text("print('nothing to do with it')")


def comment_and_layout(bench: Bench) -> None:
    (bench.root / "model.py").write_text(
        '"""Says more now."""\n# and here\n' + CODE.replace("    return", "\n    return")
    )


def sub_package(bench: Bench) -> None:
    (bench.root / "tools/lines.py").write_text("def clean(x):\n    return x or None\n")


def module(bench: Bench) -> None:
    (bench.root / "model.py").write_text(CODE + "X = 1\n")


def schema_content(bench: Bench) -> None:
    (bench.root / "schema.pbtxt").write_text("feature { name: 'fare' type: INT }\n")


def data_within_the_same_second_and_size(bench: Bench) -> None:
    file = bench.root / "data/taxi/1/trips.csv"
    before = file.stat()
    file.write_text("fare\n2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def data_touched(bench: Bench) -> None:
    os.utime(bench.root / "data/taxi/1/trips.csv")


def lost_result(bench: Bench) -> None:
    (artifact,) = next(e for e in bench.history if e.node == "statistics").outputs["statistics"]
    Path(artifact.uri).rename(bench.root / "taken-away")


def another_pipeline(bench: Bench) -> None:
    bench.spec("other")


@pytest.mark.parametrize(
    ("what", "runs"),
    [
        pytest.param(lambda _: None, set(), id="nothing"),
        pytest.param(runtime_settings, set(), id="settings of the run, such as timeouts"),
        pytest.param(unrelated_file, set(), id="a file beside the module"),
        pytest.param(comment_and_layout, set(), id="comments and layout of the module"),
        pytest.param(sub_package, {"trainer"}, id="a sub-package that the module imports"),
        pytest.param(schema_content, {"schema", "validator", "trainer"}, id="the content of the schema's file"),
        pytest.param(
            data_within_the_same_second_and_size,
            {"examples", "statistics", "validator", "trainer"},
            id="data of the same size and time",
        ),
        pytest.param(data_touched, set(), id="data touched only"),
        pytest.param(lost_result, {"statistics"}, id="a result that was deleted"),
        pytest.param(another_pipeline, set(), id="another pipeline on the same state"),
    ],
)
def test_what_runs_again(bench: Bench, what: Callable[[Bench], None], runs: set[str]) -> None:
    before = len(bench.history)
    what(bench)
    bench.settle()
    again = [e for e in bench.history if e.id > before and e.pipeline == "taxi"]
    assert {e.node for e in again} == runs
    assert len(again) == len(runs), "each once"


@pytest.mark.parametrize(
    ("policy", "module_edit", "tool_edit"),
    [("strict", 1, 1), ("module", 1, 0), ("pinned", 0, 0)],
)
def test_how_much_code_counts_is_the_users_choice(bench: Bench, policy: str, module_edit: int, tool_edit: int) -> None:
    edit_spec(bench, "{kind: trainer, ", f"{{kind: trainer, code: {policy}, ")
    bench.settle()
    for edit, expected in (
        (sub_package, tool_edit),
        (lambda b: (b.root / "model.py").write_text(CODE + "X = 1\n"), module_edit),
    ):
        before = len(bench.history)
        edit(bench)
        bench.settle()
        assert len([e for e in bench.history if e.id > before]) == expected


def test_files_named_as_code_count_by_content_and_by_name(bench: Bench) -> None:
    edit_spec(bench, "{kind: trainer, ", "{kind: trainer, code_deps: ['../queries/*.sql'], ")
    bench.settle()
    for change in (
        lambda: (bench.root / "queries/a.sql").write_text("select 2"),
        lambda: (bench.root / "queries/b.sql").write_text("select 3"),
    ):
        before = len(bench.history)
        change()
        bench.settle()
        assert [e.node for e in bench.history if e.id > before] == ["trainer"]
    assert str(bench.root / "queries") in bench.watcher.interests


def test_what_using_and_editing_a_named_folder_leaves_there_is_no_code(bench: Bench) -> None:
    helpers = bench.root / "helpers"
    (helpers / "__pycache__").mkdir(parents=True)
    (helpers / "words.py").write_text("ALL = 1\n")
    edit_spec(bench, "{kind: trainer, ", "{kind: trainer, code_deps: ['../helpers', '../helpers/**/*'], ")
    bench.settle()
    before = len(bench.history)
    for name in ("__pycache__/words.cpython-310.pyc", ".words.py.swp", "words.py~", "4913"):
        (helpers / name).write_text("left there")
    (helpers / "words.py").write_text("ALL = 1  # of them\n")
    bench.settle()
    assert len(bench.history) == before
    (helpers / "words.py").write_text("ALL = 2\n")
    bench.settle()
    assert [e.node for e in bench.history if e.id > before] == ["trainer"]


def test_versions_of_named_packages_count(bench: Bench) -> None:
    edit_spec(bench, "{kind: trainer, ", "{kind: trainer, packages: [numpy], ")
    bench.settle()
    (trained,) = [e for e in bench.history if e.node == "trainer"][-1:]
    assert trained.ingredients["packages"]["numpy"][0].isdigit()
