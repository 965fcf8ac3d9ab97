"""A folder of versions that no server watches: whatever happens to a push, one version per model, `current` true."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctd.deploy.folder import CURRENT, Folder
from ctd.deploy.inspection import Inspector
from ctd.deploy.target import Pushed

POINTS = ["push.alloc", "push.copy_mid", "push.before_rename", "push.after_rename", "push.after_current"]
KILLED = (
    "import sys; from pathlib import Path; from ctd.core.failpoints import arm; from ctd.deploy.folder import Folder; "
    "arm(sys.argv[1] + '=kill:1'); Folder(Path(sys.argv[2]), keep=int(sys.argv[4])).push(2, 'recipe-2', lambda: "
    "Path(sys.argv[3]))"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "mobile" / "taxi"


def made(tmp_path: Path, model: int, again: int = 0) -> Path:
    """A converted model. Converted once more its bytes may be others."""
    folder = tmp_path / f"made-{model}-{again}"
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(b"weights %d %d" % (model, again))
    (folder / "signature.json").write_text("{}")
    return folder


def push(base: Path, folder: Path, model: int, *, keep: int = 3) -> Pushed:
    return Folder(base, keep=keep).push(model, f"recipe-{model}", lambda: folder)


def versions(base: Path) -> list[int]:
    return sorted(int(p.name) for p in base.iterdir() if p.name.isdigit())


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("point", [*POINTS, "push.before_delete"])
def test_a_push_killed_anywhere_converges_to_one_version_of_the_model(
    base: Path, tmp_path: Path, point: str, keep: int
) -> None:
    push(base, made(tmp_path, 1), 1, keep=keep)
    command = [sys.executable, "-c", KILLED, point, str(base), str(made(tmp_path, 2)), str(keep)]
    dead = subprocess.run(command, check=False)
    reached = point != "push.before_delete" or keep == 1  # with room for both nothing is deleted
    assert dead.returncode == (-signal.SIGKILL if reached else 0)
    used = int((base / CURRENT).read_text())
    assert (base / str(used) / "model.tflite").is_file() or versions(base)[-1] > used

    pushed = push(base, made(tmp_path, 2, again=1), 2, keep=keep)
    mine = [v for v in versions(base) if (base / str(v) / "model.tflite").read_bytes().startswith(b"weights 2")]
    assert mine == [pushed.version] == versions(base)[-1:]
    assert (base / CURRENT).read_text() == f"{pushed.version}\n"
    assert not list(base.glob(".ctd-*"))
    assert Inspector().look(base, pushed.version, pointer=True).fault == ""


def test_a_version_copied_elsewhere_and_back_is_the_same_version(base: Path, tmp_path: Path) -> None:
    pushed = push(base, made(tmp_path, 1), 1)
    shutil.copytree(pushed.path, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(pushed.path)
    (tmp_path / "copy").rename(pushed.path)
    assert "was written to" in Inspector().look(base, 1, pointer=True).fault
    again = push(base, made(tmp_path, 1), 1)
    assert (again.version, again.fresh) == (1, False)
    assert Inspector().look(base, 1, pointer=True).fault == ""


def test_a_look_tells_who_made_what_is_above(base: Path, tmp_path: Path) -> None:
    for model in (1, 2):
        push(base, made(tmp_path, model), model)
    looks = Inspector()
    assert "of a push that came to no good end" in looks.look(base, 1, pointer=True).fault
    others = looks.look(base, 1, pointer=True, other={2: "fares"}.__getitem__)
    assert others.fault == "version 2, which pipeline fares pushed, is above version 1"
    (base / "9").mkdir()
    assert "which ctd did not make" in looks.look(base, 2, pointer=True).fault
    (base / "9").rename(base / "9.tmp")
    assert looks.look(base, 2, pointer=True).fault == ""
    (base / "10").touch()  # a server goes by the name
    assert "version 10, which ctd did not make" in looks.look(base, 2, pointer=True).fault
    (base / "10").unlink()
    shutil.rmtree(base)
    assert looks.look(base, 2, pointer=True).fault == "version 2 is gone"


def test_a_look_without_a_ledger_takes_what_is_there_for_whole(base: Path, tmp_path: Path) -> None:
    push(base, made(tmp_path, 1), 1)
    shutil.rmtree(base / ".ctd")
    assert Inspector().look(base, 1, pointer=True).fault == ""
