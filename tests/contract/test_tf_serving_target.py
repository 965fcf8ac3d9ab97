"""A directory that a model server watches: what it may see there, whatever happens to the push."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd.core import failpoints
from ctd.core.errors import BadInput, TargetUnavailable
from ctd.deploy.target import Candidate
from ctd.deploy.tf_serving import Patience
from tests.contract.target_bench import content, hidden, model_in, push, versions


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Candidate]:
    return partial(model_in, tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "taxi"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_a_pushed_model_is_a_numbered_directory_with_the_same_files(
    base: Path, model: Callable[..., Candidate]
) -> None:
    pushed = push(base, model(1))
    assert (pushed.version, pushed.path, pushed.fresh) == (1, base / "1", True)
    assert content(base / "1") == content(model(1).path)
    assert hidden(base) == []


def test_whoever_may_read_the_base_may_read_the_version(base: Path, model: Callable[..., Candidate]) -> None:
    base.mkdir(parents=True)
    base.chmod(0o755)
    before = os.umask(0o077)
    try:
        push(base, model(1))
    finally:
        os.umask(before)
    assert (base / "1" / "variables").stat().st_mode & 0o777 == 0o755
    assert (base / "1" / "saved_model.pb").stat().st_mode & 0o777 == 0o644


def test_the_same_model_again_changes_nothing(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1))
    again = push(base, model(1))
    assert (again.version, again.fresh, versions(base)) == (1, False, ["1"])


def test_another_model_becomes_a_higher_version(base: Path, model: Callable[..., Candidate]) -> None:
    assert [push(base, model(n)).version for n in (1, 2)] == [1, 2]
    assert versions(base) == ["1", "2"]


def test_an_older_model_is_pushed_anew_when_another_is_on_top(base: Path, model: Callable[..., Candidate]) -> None:
    for number in (1, 2):
        push(base, model(number))
    assert push(base, model(1)).version == 3
    assert content(base / "3") == content(model(1).path)


def test_a_damaged_version_is_pushed_anew(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1))
    (base / "1" / "saved_model.pb").write_bytes(b"rotten")
    assert push(base, model(1)).version == 2


@pytest.mark.parametrize("where", [".", "variables"])
def test_a_version_with_a_link_in_it_is_pushed_anew(base: Path, model: Callable[..., Candidate], where: str) -> None:
    push(base, model(1))
    (base / "1" / where / "passwords").symlink_to("/etc/passwd")
    assert push(base, model(1)).version == 2
    assert content(base / "2") == content(model(1).path)


def test_a_deleted_version_is_pushed_anew_under_another_number(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1))
    shutil.rmtree(base / "1")
    assert push(base, model(1)).version == 2


def test_only_so_many_versions_are_kept(base: Path, model: Callable[..., Candidate]) -> None:
    for number in range(1, 6):
        push(base, model(number), keep=2)
    assert versions(base) == ["4", "5"]
    assert hidden(base) == []


@settings(max_examples=40)
@given(steps=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=6))
def test_whatever_is_pushed_the_live_version_stays_and_others_beyond_keep_go(
    steps: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Models come and come back, as after a rollback, and `keep` is edited meanwhile."""
    folder = tmp_path_factory.mktemp("push")
    base, foreign = folder / "serving", folder / "serving" / "0"
    foreign.mkdir(parents=True)
    for number, keep in steps:
        candidate = model_in(folder, number)
        live = push(base, candidate, keep=keep).version
        assert content(base / str(live)) == content(candidate.path)
        assert versions(base)[-1] == str(live)
        assert len(versions(base)) - 1 <= keep
        assert foreign.is_dir()


def test_a_number_is_never_given_twice_even_when_its_directory_is_gone(
    base: Path, model: Callable[..., Candidate]
) -> None:
    for number in (1, 2):
        push(base, model(number))
    for path in base.glob("[0-9]*"):
        shutil.rmtree(path)
    assert push(base, model(3)).version == 3


@pytest.mark.parametrize("foreign", ["20260101", "007"])
def test_foreign_versions_are_counted_and_never_touched(
    base: Path, model: Callable[..., Candidate], foreign: str
) -> None:
    (base / foreign).mkdir(parents=True)
    (base / foreign / "saved_model.pb").write_bytes(b"theirs")
    pushed = [push(base, model(n), keep=1).version for n in (1, 2)]
    assert pushed == [int(foreign) + 1, int(foreign) + 2]
    assert content(base / foreign) == {"saved_model.pb": b"theirs"}


def test_a_file_named_like_a_version_counts_as_one_and_is_never_touched(
    base: Path, model: Callable[..., Candidate]
) -> None:
    """A server aspires to it, fails, and has nothing else of a lower number."""
    assert push(base, model(1)).version == 1
    (base / "99").write_text("notes")
    assert [(p.version, p.fresh) for p in (push(base, model(1)), push(base, model(1)))] == [(100, True), (100, False)]
    assert (base / "99").read_text() == "notes"
    shutil.rmtree(base / "100")
    (base / "100").write_text("where ours was")
    assert push(base, model(1)).version == 101
    assert (base / "100").read_text() == "where ours was"


@given(
    names=st.sets(
        st.one_of(st.integers(0, 10**12).map(str), st.sampled_from(["tmp", "5.tmp", ".hidden", "-3", "1_0", "٣", "²"])),
        max_size=6,
    )
)
def test_the_next_version_is_above_every_number_that_a_server_would_see(
    names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base, source = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("model")
    (source / "saved_model.pb").write_bytes(b"graph")
    for position, name in enumerate(sorted(names)):
        (base / name).touch() if position % 2 else (base / name).mkdir()
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    assert push(base, Candidate(1, source)).version == max(numbers, default=0) + 1


POINTS = ["push.alloc", "push.copy_mid", "push.before_rename", "push.after_rename"]


@pytest.mark.parametrize("point", POINTS)
def test_a_push_killed_anywhere_is_finished_by_the_next(
    base: Path, model: Callable[..., Candidate], point: str
) -> None:
    push(base, model(1))
    candidate = model(2)
    code = (
        "import sys; from pathlib import Path; from ctd.core.failpoints import arm; "
        "from ctd.deploy.target import Candidate; from ctd.deploy.tf_serving import TfServing; "
        f"arm('{point}=kill:1'); TfServing(Path(sys.argv[1]), keep=3).push(Candidate(2, Path(sys.argv[2])))"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(base), str(candidate.path)], check=False)
    assert dead.returncode == -signal.SIGKILL

    # What a server sees right after the crash is whole.
    assert all(content(base / v) in (content(model(1).path), content(candidate.path)) for v in versions(base))
    pushed = push(base, candidate)
    assert content(base / str(pushed.version)) == content(candidate.path)
    copies = [v for v in versions(base) if content(base / v) == content(candidate.path)]
    assert copies == [str(pushed.version)]  # not pushed twice
    assert hidden(base) == []


def test_a_push_killed_while_it_removed_an_old_version_leaves_no_half_of_it(
    base: Path, model: Callable[..., Candidate]
) -> None:
    push(base, model(1), keep=1)
    failpoints.arm("push.before_delete=raise:1")
    with pytest.raises(failpoints.FailpointHit):
        push(base, model(2), keep=1)
    assert versions(base) == ["2"]
    assert push(base, model(2), keep=1).fresh is False
    assert hidden(base) == []


def test_a_torn_ledger_line_is_as_if_never_written(base: Path, model: Callable[..., Candidate]) -> None:
    push(base, model(1))
    ledger = base / ".ctd" / "pushes.jsonl"
    with ledger.open("a") as file:
        file.write('{"version": 99, "mod')
    assert push(base, model(2)).version == 2
    assert [push(base, model(2)).version, push(base, model(3)).version] == [2, 3]
    assert json.loads(ledger.read_text().splitlines()[-1])["fate"] == "pushed"


@pytest.mark.parametrize("point", ["push.copy_mid", "push.before_rename"])
def test_a_full_disk_is_temporary_and_leaves_nothing_behind(
    base: Path, model: Callable[..., Candidate], point: str
) -> None:
    push(base, model(1))
    failpoints.arm(f"{point}=err(ENOSPC):1")
    with pytest.raises(TargetUnavailable) as failed:
        push(base, model(2))
    assert "free space" in failed.value.hint
    assert versions(base) == ["1"]
    assert hidden(base) == []
    assert content(base / str(push(base, model(2)).version)) == content(model(2).path)


def test_a_base_path_that_is_a_file_is_said_so(base: Path, model: Callable[..., Candidate]) -> None:
    base.parent.mkdir(parents=True)
    base.write_text("not a directory")
    with pytest.raises(TargetUnavailable) as failed:
        push(base, model(1))
    assert str(base) in failed.value.message
    assert "is a file" in failed.value.hint
    assert base.read_text() == "not a directory"


def test_a_parent_that_cannot_be_made_is_said_so(model: Callable[..., Candidate]) -> None:
    with pytest.raises(TargetUnavailable) as failed:
        push(Path("/proc/serving/taxi"), model(1))
    assert failed.value.hint.endswith("it is tried again.")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_path_that_may_not_be_written_says_what_to_change(
    base: Path, model: Callable[..., Candidate], number: int
) -> None:
    failpoints.arm(f"push.alloc=err({errno.errorcode[number]}):1")
    with pytest.raises(TargetUnavailable) as failed:
        push(base, model(1))
    assert "writ" in failed.value.hint


def test_a_model_without_files_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing in"):
        push(base, Candidate(1, tmp_path / "gone"))


def test_a_model_that_points_elsewhere_is_refused(base: Path, model: Callable[..., Candidate]) -> None:
    candidate = model(1)
    (candidate.path / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="link"):
        push(base, candidate)
    assert not base.exists()


def test_two_pushes_at_once_take_turns(base: Path, model: Callable[..., Candidate]) -> None:
    candidates = [model(n) for n in range(1, 5)]
    said = {"keep": 9, "patience": Patience(lock=timedelta(seconds=100))}
    threads = [threading.Thread(target=push, args=(base, c), kwargs=said) for c in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions(base) == ["1", "2", "3", "4"]
    found = [content(base / v) for v in versions(base)]
    assert all(content(c.path) in found for c in candidates)


def test_a_destination_held_for_long_is_tried_again_later(base: Path, model: Callable[..., Candidate]) -> None:
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    push(base, model(1))
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(base / ".ctd" / "lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TargetUnavailable, match="another push"):
            push(base, model(2))
    finally:
        holder.kill()
        holder.communicate()
    assert push(base, model(2)).version == 2  # the kernel freed the dead process's lock


def test_a_reader_never_sees_a_version_in_part(base: Path, model: Callable[..., Candidate]) -> None:
    candidates = [model(n) for n in range(1, 8)]
    whole = [content(c.path) for c in candidates]
    base.mkdir(parents=True)
    partial, seen, over = [], set(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            for path in [p for p in base.iterdir() if p.name.isdigit()]:
                found = content(path)
                # A version that is moved away while it is read is no longer at its name afterwards.
                if path.exists() and found not in whole:
                    partial.append((path.name, sorted(found)))
                seen.add(path.name)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for candidate in candidates:
            pushed = push(base, candidate, keep=20)
            while str(pushed.version) not in seen and reader.is_alive():
                time.sleep(0.001)
    finally:
        over.set()
        reader.join()
    assert partial == []
    assert seen == set(versions(base))
