"""Where everything lies in the state directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateDir:
    """The paths below one state directory. Others rely on them; artifact paths are TFX's."""

    root: Path

    def __post_init__(self) -> None:
        # Recorded as URIs, so they must not depend on where the daemon was started.
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.sqlite"

    @property
    def socket(self) -> Path:
        return self.root / "ctd.sock"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def damaged(self) -> Path:
        """Where the remains of damaged artifacts are kept, for people to look at and to remove."""
        return self.root / "damaged"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def digests(self) -> Path:
        """Derived: it may be deleted at any time."""
        return self.root / "digests.sqlite"

    def artifact(self, pipeline: str, node: str, output: str, execution_id: int) -> Path:
        return self.artifacts / pipeline / node / output / str(execution_id)

    def staging(self, execution_id: int) -> Path:
        """The only directory that an execution may write to."""
        return self.root / "staging" / str(execution_id)

    def log(self, execution_id: int) -> Path:
        return self.logs / f"{execution_id}.log"
