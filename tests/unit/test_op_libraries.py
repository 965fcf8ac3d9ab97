"""Where the ops of models come from: found without importing anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ctd.serving import op_libraries
from ctd.serving.errors import ServingError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages and modules that must not be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("with_ops", "with_ops/part", "with_others"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "with_ops" / "part" / "_ops.so").write_bytes(b"..." + b"OpDefBuilder" + b"...")
    (tmp_path / "with_ops" / "_fast.so").write_bytes(b"a Python extension")
    (tmp_path / "with_others" / "_empty.so").touch()
    (tmp_path / "a_module.py").write_text("raise AssertionError('imported')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("with_ops", ["with_ops/part/_ops.so"]),
        ("with_ops.part", ["with_ops/part/_ops.so"]),
        ("with_others", []),
        ("a_module", []),
    ],
)
def test_a_package_stands_for_its_shared_objects_with_ops_and_else_for_itself(
    site: Path, name: str, files: list[str]
) -> None:
    found = op_libraries.find(name)
    assert [str(file.relative_to(site)) for file in found.files] == files
    assert found.imported == (not files) == op_libraries.need_whole_tensorflow([name])
    assert name not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "with_ops.nothing", "a_module.deeper", "/none.so", "no-name", ""])
def test_a_library_that_is_not_there_is_an_error_and_needs_nothing(site: Path, name: str) -> None:
    with pytest.raises(ServingError, match=r"^op library "):
        op_libraries.find(name)
    assert not op_libraries.need_whole_tensorflow([name])


def test_names_are_a_list_with_commas() -> None:
    assert op_libraries.names_in(" one, ./two.so,,") == ("one", "./two.so")
