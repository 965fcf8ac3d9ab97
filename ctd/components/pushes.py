"""Pushes to folders: a version is made of the model only where it is not there yet.

Making one takes TensorFlow, finding one does not: what makes it is imported when it is needed.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from ctd.components.api import Work
from ctd.core.fingerprints import digest_of
from ctd.deploy.conversion import Form
from ctd.deploy.folder import Folder
from ctd.deploy.huggingface import upload
from ctd.deploy.target import Pushed
from ctd.specs.targets import AnyTarget, HubTarget, HuggingFace, TfjsTarget, TfliteTarget


def push_converted(work: Work, target: TfliteTarget | TfjsTarget, form: Form, notes: Path) -> Pushed:
    """Convert the model and make the result the newest version, unless it already is; the report goes to `notes`.

    Raises Refused if its answers are others, and then the target is as it was.
    """

    def make() -> Path:
        from ctd.components.conversions import converted  # noqa: PLC0415  TensorFlow

        return converted(work, target, form, notes)

    return _folder(work, target).push(work.input("model").id, _recipe(work, target), make)


def push_to_hub(work: Work, target: HubTarget) -> Pushed:
    """Make the model the newest version of the repository, unless it already is; upload what is to be elsewhere too.

    What cannot be uploaded now is a note of the push: the version is here, and the upload is tried again later.
    """

    def make() -> Path:
        from ctd.components.hub_version import write  # noqa: PLC0415  TensorFlow

        made = Path(tempfile.mkdtemp(prefix="version-"))
        write(work, target, made)
        return made

    folder = _folder(work, target)
    pushed = folder.push(work.input("model").id, _recipe(work, target), make)
    return _uploaded(work, target.huggingface, folder, pushed) if target.huggingface else pushed


def _uploaded(work: Work, where: HuggingFace, folder: Folder, pushed: Pushed) -> Pushed:
    place = where.place(work.request.pipeline)
    versions = [version for version in folder.versions() if version < pushed.version]
    work.progress(f"uploading version {pushed.version} to {place}")
    scratch = Path(tempfile.mkdtemp(prefix="upload-"))
    why_not = upload(where, work.request.pipeline, [*versions, pushed.version], pushed.path.parent, scratch)
    said = f"not uploaded to {place}: {why_not}" if why_not else f"uploaded to {place} as v{pushed.version}"
    note = "; ".join(part for part in (pushed.note, said) if part)
    return replace(pushed, note=note, uploaded="" if why_not else place, not_uploaded=why_not)


def _folder(work: Work, target: AnyTarget) -> Folder:
    return Folder(Path(target.base_path(work.request.pipeline)), keep=target.keep)


def _recipe(work: Work, target: AnyTarget) -> str:
    return digest_of({"model": work.input("model").digest, "settings": target.settings(work.request.pipeline)})
