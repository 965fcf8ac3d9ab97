"""Small models and fake servers, to push to a directory that a model server watches."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ctd.core.errors import TargetUnavailable
from ctd.deploy.target import Answers, Candidate, Phase, Pushed, VersionState
from ctd.deploy.tf_serving import Patience, TfServing

QUICK = Patience(load=timedelta(seconds=0.5), away=timedelta(seconds=0.3), lock=timedelta(seconds=0.5))
FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "variables/variables.data": b"w" * 50_000}


def model_in(folder: Path, number: int, text: str = "") -> Candidate:
    """A model of a few files, unlike those of other numbers and texts."""
    path = folder / f"model-{number}"
    for name, data in FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data + (text or str(number)).encode())
    return Candidate(number, path)


class Server:
    """A model server that says what it was told to, and remembers which versions it was asked about."""

    name = "the server"

    def __init__(self, *states: VersionState | None, says: Answers | None = None) -> None:
        self.states = list(states)
        self.says = says or Answers()
        self.asked: list[int] = []

    def state(self, version: int) -> VersionState:
        self.asked.append(version)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise TargetUnavailable("nobody listens")
        return state

    def answers(self, version: int) -> Answers:
        return self.says


class Watching(Server):
    """A server that has what is in a folder; whether that is the one pushed to is the question."""

    def __init__(self, folder: Path, says: Answers) -> None:
        super().__init__(says=says)
        self.folder = folder

    def state(self, version: int) -> VersionState:
        self.asked.append(version)
        return VersionState(Phase.AVAILABLE if (self.folder / str(version)).is_dir() else Phase.UNKNOWN)


OTHERS = Answers(differ="output 'p' is 0.7 where the SavedModel itself says 0.2, 0.5 apart")


def push(
    base: Path, model: Candidate, *, keep: int = 3, server: Server | None = None, patience: Patience = QUICK
) -> Pushed:
    return TfServing(base, keep=keep, server=server, patience=patience).push(model)


def versions(base: Path) -> list[str]:
    return sorted((p.name for p in base.iterdir() if not p.name.startswith(".")), key=lambda name: (len(name), name))


def content(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def hidden(base: Path) -> list[str]:
    return sorted(p.name for p in base.iterdir() if p.name.startswith(".ctd-"))
