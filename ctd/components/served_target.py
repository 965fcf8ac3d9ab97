"""A `tf_serving` target as its file declares it: the server behind it, asked without a model, and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctd.core.errors import TargetUnavailable
from ctd.core.timing import SystemClock
from ctd.deploy.labels import Labels
from ctd.deploy.model_config import ModelConfigFile
from ctd.deploy.target import Phase, VersionState
from ctd.deploy.tf_serving import Patience
from ctd.serving.errors import Code, RequestRefused, ServerDeadline
from ctd.specs.targets import Server, TfServingTarget

_SECONDS = 5.0
_PHASES = {"LOADING": Phase.LOADING, "AVAILABLE": Phase.AVAILABLE, "UNLOADING": Phase.END, "END": Phase.END}


@dataclass(frozen=True)
class StatusServer:
    """The server named by a target, asked where versions are and not for predictions."""

    server: Server
    model: str

    def state(self, version: int) -> VersionState:
        """Ask about one version. Raises TargetUnavailable if the server does not answer."""
        from ctd.serving.client import model_status  # noqa: PLC0415  its messages bring TensorFlow

        try:
            status = model_status(self.server, self.model, version, _SECONDS)
        except (ServerDeadline, RequestRefused) as error:
            raise TargetUnavailable(error.message, hint=error.hint) from error
        phase = _PHASES.get(status.state.name, Phase.UNKNOWN) if status.state else Phase.UNKNOWN
        failed = status.state is not None and status.error_code is not Code.OK
        return VersionState(phase, f"{status.error_code.name}: {status.error_message}" if failed else "")

    def labelled(self, label: str) -> int | None:
        """The version that answers by a label. Raises TargetUnavailable if the server does not answer."""
        from ctd.serving.client import Client  # noqa: PLC0415  as above

        try:
            with Client.of(self.server) as client:
                return client.labelled(self.model, label, _SECONDS)
        except (ServerDeadline, RequestRefused) as error:
            raise TargetUnavailable(error.message, hint=error.hint) from error


def patience_with(server: Server | None) -> Patience:
    """How long to wait for a server."""
    return Patience(load=server.timeout) if server else Patience()


def labels_of(target: TfServingTarget, pipeline: str, trial: str) -> Labels | None:
    """The labels that ctd keeps for a pipeline's model; nothing if the target names no config file."""
    server = target.server
    if server is None or server.config is None:
        return None
    model, base, lock = server.model or pipeline, target.base_path(pipeline), patience_with(server).lock
    return Labels(ModelConfigFile(Path(server.config), model, base, lock=lock, clock=SystemClock()), trial)
