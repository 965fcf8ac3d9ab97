"""Before a component runs, its inputs are compared with what was published: no work is done on damaged data."""

from __future__ import annotations

import os

from ctd.components.api import Work
from ctd.core.artifacts import Artifact
from ctd.core.errors import CtdError, DamagedArtifact, StorageUnavailable
from ctd.core.failpoints import fp
from ctd.core.machine import unavailable
from ctd.core.work import Request
from ctd.storage.checksums import content_faults


def verify(request: Request) -> None:
    """Raise DamagedArtifact for inputs that are not what was published, StorageUnavailable if that cannot be told."""
    inputs = {artifact.id: artifact for taken in request.inputs.values() for artifact in taken}
    found = {id_: wrong for id_, artifact in inputs.items() if (wrong := _faults(artifact))}
    if found:
        said = "; ".join(f"{inputs[i].type.value} {inputs[i].label} in {inputs[i].uri}: {w}" for i, w in found.items())
        hint = "It is set aside and made again, and this tried again. If that happens often, look at the disk."
        raise DamagedArtifact(f"{Work(request).where}: damaged input: {said}", hint=hint, found=found)


def explained(error: BaseException, request: Request) -> BaseException:
    """The error; or what befell its inputs while the component ran, which is the likelier reason.

    An input was damaged or taken away, or cannot be read.
    """
    if not isinstance(error, Exception) or isinstance(error, (DamagedArtifact, StorageUnavailable)):
        return error
    try:
        verify(request)
    except CtdError as likelier:
        likelier.__cause__ = error
        return likelier
    return error


def _faults(artifact: Artifact) -> str:
    try:
        fp("worker.verify")
        os.stat(artifact.uri)  # noqa: PTH116 - as the daemon looks
        return content_faults(artifact)
    except (FileNotFoundError, NotADirectoryError):
        return "it is gone"
    except OSError as error:
        raise unavailable("an input cannot be read", error, artifact.uri) from error
