"""Targets as states to keep true, on real folders: what the daemon sees there, and what it does about it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ctd.api.models import LiveView
from ctd.core.errors import CtdError, NotFound, NotPossible, TargetUnavailable
from ctd.core.executions import Execution, State
from ctd.core.failpoints import arm
from ctd.core.work import Request
from ctd.deploy.folder import CURRENT, Folder
from ctd.deploy.target import Answers, Candidate, Phase, Pushed, VersionState
from ctd.deploy.tf_serving import Patience, TfServing
from ctd.specs.targets import AnyTarget, HubTarget, TfServingTarget
from tests.flow.bench import Bench

KINDS = {"serving": "tf_serving", "mobile": "tflite", "web": "tfjs", "hub": "hub"}
TARGET: TypeAdapter[AnyTarget] = TypeAdapter(AnyTarget)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


class Site(Bench):
    """A pipeline that pushes each model to four targets. Pushes are real ones of the model's files as they are."""

    server_up = True
    unloadable = ""  # why the server of `serving` can load nothing that is new
    name = "the server"

    def declare(self, target: str, **said: Any) -> None:
        """Write a target's file."""
        fields = {"target": target, "kind": KINDS[target], "path": f"../{target}/{{pipeline}}", **said}
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        (self.root / f"deploy_targets/{target}.yaml").write_text(text)

    def train(self, steps: int) -> None:
        """Another model, pushed."""
        spec = self.spec(steps=steps)
        spec.write_text(spec.read_text() + f"  pusher: {{kind: pusher, targets: [{', '.join(KINDS)}], require: []}}\n")
        self.rest()

    def rest(self) -> None:
        """Let everything be done that is due."""
        self.tick()
        while requests := [self.executor.requests[id_] for id_ in self.executor.running()]:
            for request in requests:
                if request.node == "pusher":
                    self._push(request)
                else:
                    self._succeed(request)
            self.tick()

    def _push(self, request: Request) -> None:
        target = TARGET.validate_python(request.target)
        try:
            pushed = self._handed_over(target, request)
        except CtdError as error:
            self.executor.fail(request.execution_id, error)
            return
        self._succeed(
            request,
            pushed=1,
            pushed_destination=str(pushed.path),
            pushed_version=pushed.version,
            verified=int(pushed.verified),
            **self._uploaded(target, request.pipeline),
        )

    def _uploaded(self, target: AnyTarget, pipeline: str) -> dict[str, str]:
        """What a push says of the upload, which a real one tries after it."""
        if not isinstance(target, HubTarget) or target.huggingface is None:
            return {}
        if not self.server_up:
            return {"not_uploaded": "it does not answer"}
        return {"uploaded": target.huggingface.place(pipeline)}

    def _handed_over(self, target: AnyTarget, request: Request) -> Pushed:
        (model,) = request.inputs["model"]
        base = Path(target.base_path(request.pipeline))
        if isinstance(target, TfServingTarget):
            asked = self if target.server else None
            return TfServing(base, keep=target.keep, server=asked, patience=_QUICK).push(
                Candidate(model.id, Path(model.uri))
            )
        return Folder(base, keep=target.keep).push(model.id, model.digest, lambda: Path(model.uri))

    def state(self, version: int) -> VersionState:
        """What the server of `serving` answers."""
        if not self.server_up:
            raise TargetUnavailable(f"nobody listens for version {version}")
        return VersionState(Phase.END, self.unloadable) if self.unloadable else VersionState(Phase.AVAILABLE)

    def answers(self, version: int) -> Answers:
        return Answers()

    def live(self, target: str) -> LiveView:
        """What `ctd status` says of a target."""
        (view,) = (t for t in self.views().status().pipelines[0].live if t.target == target)
        return view

    def base(self, target: str) -> Path:
        return self.root / target / "taxi"

    def top(self, target: str) -> Path:
        """The version that servers and clients take."""
        return max((p for p in self.base(target).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))

    def pushes(self, target: str) -> list[Execution]:
        return [e for e in self.executions("pusher", State.SUCCEEDED) if e.piece == target]


_QUICK = Patience(load=Patience().load / 60, away=Patience().away / 50)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three models, each on all four targets."""
    made = Site(tmp_path)
    for target in KINDS:
        made.declare(target)
    for number in (1, 2, 3):
        made.span(number)
    made.start()
    for steps in (100, 200, 300):
        made.train(steps)
    return made


def _truncate(version: Path) -> None:
    os.truncate(version / "data", 3)


def _write_to(version: Path) -> None:
    (version / "data").write_bytes((version / "data").read_bytes()[::-1])


def _foreign(version: Path) -> None:
    shutil.copytree(version, version.with_name("20260101"))


def _foreign_file(version: Path) -> None:
    version.with_name("20260101").touch()


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "deleted": (shutil.rmtree, "version 3 is gone"),
    "truncated": (_truncate, "version 3 is not as it was pushed: data has 3 of "),
    "a file gone": (lambda version: (version / "data").unlink(), "version 3 is not as it was pushed: data is gone"),
    "a file more": (lambda version: (version / "x").touch(), "version 3 is not as it was pushed: x was added"),
    "written to": (_write_to, "version 3 is not as it was pushed: data was written to"),
    "a foreign one above": (_foreign, "version 20260101, which ctd did not make, is above version 3"),
    "a foreign file above": (_foreign_file, "version 20260101, which ctd did not make, is above version 3"),
}


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("harm", HARM)
def test_what_happens_to_a_version_is_told_once_and_mended_under_a_new_number(
    site: Site, target: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    do, said = HARM[harm]
    do(site.base(target) / "3")
    site.tick()
    assert site.live(target).problem.startswith(said)
    (told,) = [vars(r) for r in caplog.records if r.getMessage() == "target changed"]
    assert told["target"] == target
    assert told["because"].startswith(said)
    site.rest()
    live = site.live(target)
    assert (live.version, live.problem) == (20260102 if "foreign" in harm else 4, "")
    assert live.because.startswith(said)
    assert live.because.endswith(f"on target {target}: pushed again")
    assert (site.top(target) / "data").read_bytes() == (Path(_model(site)) / "data").read_bytes()
    assert [len(site.pushes(t)) for t in KINDS] == [4 if t == target else 3 for t in KINDS]
    site.clock.forward(hours=1)
    site.rest()
    assert len(site.pushes(target)) == 4


def _model(site: Site) -> str:
    return site.executions("trainer", State.SUCCEEDED)[-1].output("model")[0].uri


@pytest.mark.parametrize("target", KINDS)
def test_with_report_it_is_told_and_left_as_it_is(site: Site, target: str) -> None:
    site.declare(target, on_damage="report")
    shutil.rmtree(site.base(target) / "3")
    site.rest()
    assert site.live(target).problem == "version 3 is gone"
    (alert,) = site.views().status().pipelines[0].alerts
    assert alert.startswith("pusher: version 3 is gone. `on_damage: report` leaves it so")
    assert len(site.pushes(target)) == 3


def test_foreign_versions_are_never_touched(site: Site) -> None:
    foreign = site.base("serving") / "77"
    foreign.mkdir()
    (foreign / "saved_model.pb").write_bytes(b"theirs")
    site.rest()
    for steps in (400, 500, 600, 700):
        site.train(steps)
    assert (foreign / "saved_model.pb").read_bytes() == b"theirs"
    assert site.live("serving").version == 82


def test_a_copy_of_the_folder_with_other_times_is_no_new_version(site: Site) -> None:
    data = site.base("serving") / "3/data"
    os.utime(data, ns=(1, 1))
    site.rest()
    assert site.top("serving").name == "3"
    assert len(site.pushes("serving")) == 4, "a worker has read it, and noted how it looks now"
    site.rest()
    assert len(site.pushes("serving")) == 4


def test_the_pointer_to_the_version_in_use_is_kept(site: Site) -> None:
    (site.base("hub") / CURRENT).write_text("1\n")
    site.rest()
    assert (site.base("hub") / CURRENT).read_text() == "3\n"
    assert site.live("hub").because.startswith("the file `current` names 1 instead of 3")


def test_with_few_slots_targets_get_their_model_in_the_order_of_the_spec(tmp_path: Path) -> None:
    site = Site(tmp_path, parallel=1)
    for target in KINDS:
        site.declare(target)
    site.span(1)
    site.start()
    site.train(100)
    pushes = sorted(site.executions("pusher", State.SUCCEEDED), key=lambda e: e.id)
    assert [e.piece for e in pushes] == list(KINDS)


def test_one_bad_target_is_a_verdict_on_that_target_alone(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(site.base("web").parent)
    site.base("web").parent.write_text("a file where a folder should be")
    shutil.move(site.base("mobile"), elsewhere / "mobile")
    site.base("mobile").symlink_to(elsewhere / "mobile")
    (site.base("hub") / str(2**63 - 1)).mkdir()
    site.train(400)
    said = {d.subject.piece: d.because for d in site.decisions() if d.subject.node == "pusher"}
    assert "Not a directory" in said["web"] or "exists" in said["web"]
    assert "the highest number there is" in said["hub"]
    assert (site.live("serving").version, site.live("mobile").version) == (4, 4)
    assert (elsewhere / "mobile/4/data").exists(), "a link to a folder is as good as a folder"


@pytest.mark.parametrize(("number", "said"), [("EROFS", "read-only"), ("ENOSPC", "free space"), ("EXDEV", "one disk")])
def test_a_target_that_cannot_be_written_gets_its_model_when_it_can(site: Site, number: str, said: str) -> None:
    arm(f"push.alloc=err({number}):3")  # of the third target
    site.train(400)
    failed = [e for e in site.executions("pusher", State.FAILED) if e.failure]
    assert [(e.piece, said in str(e.failure)) for e in failed] == [("web", True)]
    assert [site.live(t).version for t in KINDS] == [4, 4, 3, 4]
    site.clock.forward(minutes=5)
    site.rest()
    assert int(site.top("web").name) == site.live("web").version > 3


def _address(door: socket.socket, folder: Path) -> str:
    match door.family:
        case socket.AF_UNIX:
            door.bind(str(folder / "door"))
            return f"unix:{folder / 'door'}"
        case socket.AF_INET6:
            door.bind(("::1", 0))
            return f"[::1]:{door.getsockname()[1]}"
    door.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{door.getsockname()[1]}"


def _families() -> list[socket.AddressFamily]:
    """IPv6 only where there is a loopback interface for it: containers often have none."""
    with socket.socket(socket.AF_INET6) as door, contextlib.suppress(OSError):
        door.bind(("::1", 0))
        return [socket.AF_INET, socket.AF_UNIX, socket.AF_INET6]
    return [socket.AF_INET, socket.AF_UNIX]


@pytest.mark.parametrize("family", _families())
def test_a_server_that_was_down_is_asked_when_it_is_back(
    site: Site, family: socket.AddressFamily, tmp_path: Path
) -> None:
    with socket.socket(family) as door:
        address = _address(door, tmp_path)
        site.declare("serving", server=f"{{grpc: '{address}'}}")
        site.server_up = False
        site.train(400)
        assert (site.live("serving").version, site.live("serving").verified) == (4, False)
        for _ in range(10):
            site.clock.forward(minutes=10)
            site.rest()
        assert site.live("serving").problem == f"pushed, not verified: nobody answers at {address}"
        assert len(site.pushes("serving")) == 4, "what is down is not asked by executions"
        door.listen()
        site.server_up = True
        site.clock.forward(minutes=1)
        site.rest()
    live = site.live("serving")
    assert (live.version, live.verified, live.problem) == (4, True, "")
    assert len(site.pushes("serving")) == 5


def test_a_repository_that_was_down_gets_the_version_when_it_is_back_and_no_new_one_is_made(site: Site) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{door.getsockname()[1]}"
        site.server_up = False
        site.declare("hub", huggingface=f"{{repo: 'acme/{{pipeline}}', endpoint: 'http://{address}'}}")
        for _ in range(10):
            site.clock.forward(minutes=10)
            site.rest()
        assert site.live("hub").problem == f"pushed, not uploaded: nobody answers at {address}"
        assert len(site.pushes("hub")) == 3, "a repository that is named later makes no version"
        door.listen()
        site.clock.forward(minutes=1)
        site.rest()
        assert site.live("hub").problem == "pushed, not uploaded: it does not answer"
        site.server_up = True
        site.clock.forward(minutes=10)
        site.rest()
    live = site.live("hub")
    assert (live.version, live.problem) == (3, "")
    assert f"http://{address}/acme/taxi has not got it: uploaded again" in site.pushes("hub")[-1].because
    site.kill()
    site.start().rest()
    assert len(site.pushes("hub")) == 5


def test_a_rollback_is_recorded_done_and_held_over_a_restart(site: Site) -> None:
    site.ask("rollback", target="serving", reason="tips far too high")
    site.rest()
    live = site.live("serving")
    assert (live.version, live.hold) == (4, "rolled back to version 2 by ana: tips far too high")
    assert (site.top("serving") / "data").read_bytes() == (site.base("serving") / "2/data").read_bytes()
    assert site.pushes("serving")[-1].because.startswith("rolled back to version 2 by ana: tips far too high; ")
    site.kill()
    site.start().rest()
    assert site.live("serving").version == 4
    site.train(400)
    assert (site.live("serving").version, site.live("serving").hold) == (5, "")
    assert site.live("hub").version == 4, "the other targets have nothing to do with it"


def test_a_released_rollback_brings_the_newest_model_back(site: Site) -> None:
    site.ask("rollback", target="serving", version=1)
    site.rest()
    newest = (site.base("serving") / "3/data").read_bytes()
    site.ask("release", target="serving")
    site.rest()
    assert (site.top("serving").name, (site.top("serving") / "data").read_bytes()) == ("5", newest)


def test_a_rollback_while_the_newest_model_was_refused_goes_back_from_the_live_one(site: Site) -> None:
    """Version 3 is live and bad, and what was to replace it did not load: that one must not be in the way."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        site.declare("serving", server=f"{{grpc: '127.0.0.1:{door.getsockname()[1]}'}}")
        site.rest()
        site.unloadable = "no such op: Frobnicate"
        site.train(400)
        assert [site.live(t).version for t in KINDS] == [3, 4, 4, 4]
        site.unloadable = ""
        site.ask("rollback", target="serving", reason="tips far too high")
        site.rest()
        live = site.live("serving")
        assert (live.version, live.hold) == (5, "rolled back to version 2 by ana: tips far too high")
        assert (site.top("serving") / "data").read_bytes() == (site.base("serving") / "2/data").read_bytes()
        site.clock.forward(hours=1)
        site.rest()
        assert site.live("serving").version == 5, "nor does it come back by itself"
        site.train(500)
        assert (site.live("serving").version, site.live("serving").hold) == (6, "")


def test_a_rollback_that_makes_no_sense_is_refused_with_what_there_is(site: Site) -> None:
    with pytest.raises(NotFound, match="pushes to no target 'servng'"):
        site.ask("rollback", target="servng")
    with pytest.raises(NotFound, match="never pushed a version 9") as refused:
        site.ask("rollback", target="serving", version=9)
    assert "1, 2 and 3" in refused.value.hint
    with pytest.raises(NotPossible, match="is that model already"):
        site.ask("rollback", target="serving", version=3)
    with pytest.raises(NotPossible, match="was not rolled back"):
        site.ask("release", target="serving")
    site.declare("serving", pin=2)
    site.tick()
    with pytest.raises(NotPossible, match="pinned to version 2"):
        site.ask("rollback", target="serving")


def test_a_pin_in_a_folder_that_was_emptied_is_to_the_newest_push_of_that_number(site: Site) -> None:
    shutil.rmtree(site.base("serving"))
    site.train(400)
    assert site.top("serving").name == "2", "the live version was pushed again first: a repair waits for no model"
    newest = (site.top("serving") / "data").read_bytes()
    site.train(500)
    site.declare("serving", pin=2)
    site.rest()
    assert site.live("serving").hold == "pinned to version 2"
    assert (site.top("serving") / "data").read_bytes() == newest


def test_a_pin_is_a_line_in_a_file(site: Site) -> None:
    site.declare("serving", keep=5, pin=1)
    site.train(400)
    assert (site.live("serving").version, site.live("serving").hold) == (4, "pinned to version 1")
    assert (site.top("serving") / "data").read_bytes() == (site.base("serving") / "1/data").read_bytes()
    site.declare("serving", pin="{other: 1}")
    site.rest()
    assert (site.live("serving").version, site.live("serving").hold) == (5, ""), "that is about another pipeline"


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_folder_of_targets_that_cannot_be_read_keeps_every_target(site: Site, instead: str) -> None:
    folder, away = site.root / "deploy_targets", site.root / "targets-away"
    before = site.wanted.targets
    folder.rename(away)
    if instead == "a file":
        folder.touch()
    site.span(4)
    site.rest()
    assert site.wanted.targets == before
    assert [target.version for target in map(site.live, KINDS)] == [4] * len(KINDS)
    assert str(folder) in {problem.file for problem in site.views().status().problems}
