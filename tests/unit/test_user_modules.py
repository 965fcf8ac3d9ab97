"""The user's module is imported as what it is in its own tree, with everything that it imports from there."""

import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from ctd.components.api import load_module
from ctd.core.errors import ComponentFailed

LOAD = """
import sys
from ctd.components.api import load_module
from ctd.core.errors import ComponentFailed
try:
    print(load_module(sys.argv[1]).answer())
except ComponentFailed as error:
    print(error.message, error.hint, sep="\\n")
"""


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))


def loaded(module: Path) -> str:
    """What `answer()` of the module says, or why it cannot be loaded; in a process of its own, as a component does."""
    done = subprocess.run([sys.executable, "-P", "-c", LOAD, str(module)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


TEMPLATE = {
    "models/__init__.py": "",
    "models/features.py": "NAMES = ['fare']",
    "models/keras_model/__init__.py": "",
    "models/keras_model/constants.py": "UNITS = 8",
    "models/keras_model/words.txt": "cash card",
}


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("from models import features\nfrom models.keras_model import constants", id="from its root"),
        pytest.param("from .. import features\nfrom . import constants", id="relative"),
        pytest.param("from models import features\nimport constants", id="from its own folder"),
    ],
)
def test_a_module_in_a_package_imports_its_neighbours(tmp_path: Path, imports: str) -> None:
    body = f"{imports}\ndef answer():\n    return __name__, features.NAMES, constants.UNITS\n"
    write(tmp_path, {**TEMPLATE, "models/keras_model/model.py": body})
    assert loaded(tmp_path / "models/keras_model/model.py") == "('models.keras_model.model', ['fare'], 8)"


def test_a_module_that_its_package_imports_is_run_once(tmp_path: Path) -> None:
    write(tmp_path, {"mine/__init__.py": "from .model import answer", "mine/model.py": "print('run')\nanswer = str"})
    assert loaded(tmp_path / "mine/model.py") == "run"


def test_files_beside_the_module_are_found_by_its_own_path(tmp_path: Path) -> None:
    text = """
        from pathlib import Path
        def answer():
            return Path(__file__).with_name("words.txt").read_text()
    """
    write(tmp_path, {**TEMPLATE, "models/keras_model/model.py": text, "model.py": text, "words.txt": "tips"})
    assert loaded(tmp_path / "models/keras_model/model.py") == "cash card"
    assert loaded(tmp_path / "model.py") == "tips"


def test_a_module_may_have_the_name_of_a_library(tmp_path: Path) -> None:
    write(tmp_path, {"pydantic.py": "def answer():\n    return 'mine'"})
    assert loaded(tmp_path / "pydantic.py") == "mine"


def test_a_package_with_the_name_of_a_library_is_refused_by_both_names(tmp_path: Path) -> None:
    write(tmp_path, {"pydantic/__init__.py": "", "pydantic/model.py": ""})
    said = loaded(tmp_path / "pydantic/model.py")
    assert f"{tmp_path}/pydantic/model.py is in a package called pydantic, and so is something else" in said
    assert "Give the package another name" in said


def test_an_error_in_a_neighbour_is_said_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {**TEMPLATE, "models/features.py": "\nUNITS = 1 / 0", "models/model.py": "from . import features"})
    assert f"ZeroDivisionError: division by zero at {tmp_path}/models/features.py:2" in loaded(
        tmp_path / "models/model.py"
    )


def test_a_missing_import_says_where_it_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path, {**TEMPLATE, "models/model.py": "import lightgbm_of_mine"})
    said = loaded(tmp_path / "models/model.py")
    assert f"No module named 'lightgbm_of_mine' at {tmp_path}/models/model.py:1" in said
    assert f"Modules are looked for in {tmp_path}/models and {tmp_path}, then in {sys.prefix}" in said


def test_what_is_no_python_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"model.yaml": ""})
    with pytest.raises(ComponentFailed, match="not a Python file"):
        load_module(str(tmp_path / "model.yaml"))


def test_modules_written_for_tfx_find_the_names_they_import(tmp_path: Path) -> None:
    text = """
        import tfx.v1 as again
        from google.protobuf.struct_pb2 import Struct
        from tfx import v1 as tfx
        from tfx.components.trainer.fn_args_utils import DataAccessor, FnArgs
        from tfx.components.tuner.component import TunerFnResult
        from tfx.utils import io_utils

        def run_fn(fn_args: tfx.components.FnArgs, accessor: tfx.components.DataAccessor):
            pass

        def tuner_fn(fn_args: FnArgs) -> tfx.components.TunerFnResult:
            pass

        def answer():
            said = tfx.utils.parse_pbtxt_file(__file__.replace("model.py", "struct.pbtxt"), Struct())
            assert io_utils.parse_pbtxt_file is again.utils.parse_pbtxt_file
            return FnArgs.__module__, dict(said)
    """
    write(tmp_path, {"model.py": text, "struct.pbtxt": 'fields { key: "a" value { number_value: 1 } }'})
    assert loaded(tmp_path / "model.py") == "('ctd.components.fn_args', {'a': 1.0})"


def test_other_names_of_tfx_are_refused_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": "from tfx import v1 as tfx\nPIPELINE = tfx.dsl.Pipeline"})
    said = loaded(tmp_path / "model.py")
    assert "tfx.v1.dsl: TFX is not installed, and ctd stands in for no more than tfx.v1.components.FnArgs" in said
    assert f"at {tmp_path}/model.py:2" in said


def test_an_installed_tfx_is_used_itself(tmp_path: Path) -> None:
    write(tmp_path, {"tfx/__init__.py": "REAL = True", "model.py": "import tfx\ndef answer():\n    return tfx.REAL"})
    assert loaded(tmp_path / "model.py") == "True"
