"""`python -m ctd.deploy.to_huggingface JOB`: uploads versions of a hub. See `ctd.deploy.huggingface`.

A version is one commit, which the server takes as a whole or not at all, and then a tag `v7` on it. A run that died
between the two has left a commit at the head of `main` that holds this very version: the next one only tags it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctd.deploy.conversion import ANSWER
from ctd.deploy.hub import ARCHIVE, CARD, MANIFEST

_MAIN, _README = "main", "README.md"
_KEPT = frozenset({".gitattributes"})  # the Hub's own
_TAG = re.compile(r"v(\d+)")
# The Hub makes the archive's content of the files themselves; the card is its README.
_LEFT_OUT = frozenset({ARCHIVE, CARD})


class Refused(Exception):
    """Why it cannot be done, with a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def main() -> None:
    """Do the job; what stands against it is the answer."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    answer = {}
    try:
        _upload(job, path.parent)
    except Refused as refused:
        answer = {"refused": str(refused), "hint": refused.hint}
    path.with_name(ANSWER).write_text(json.dumps(answer))


def _upload(job: dict[str, Any], scratch: Path) -> None:
    hub = _library(scratch, job["endpoint"])
    try:
        Repository(hub, job, scratch).bring(job["versions"])
    except hub.errors.HfHubHTTPError as error:
        raise _answered(error, job) from error
    except OSError as error:  # requests' errors are among them
        raise Refused(f"{job['endpoint']} cannot be reached: {_short(error)}", "It is tried again.") from error
    except ValueError as error:  # what the library says of a card or of an answer
        raise Refused(_short(error), "The Hub has not taken it as it is.") from error


def _library(scratch: Path, endpoint: str) -> Any:
    """The library, told before it is imported to keep to itself, and whom it talks to: parts of it ask nobody else."""
    said = {"HF_ENDPOINT": endpoint, "HF_HOME": str(scratch / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    said |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ.update(said)  # noqa: TID251  for the library
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise Refused(
            "the Python package huggingface_hub is not installed",
            "Install it with `pip install 'huggingface_hub<1'`, for the Python that runs ctd.",
        ) from error


class Repository:
    """One model repository, and the versions that are to be there."""

    def __init__(self, hub: Any, job: dict[str, Any], scratch: Path) -> None:
        self._hub = hub
        self._job = job
        self._cache = scratch / "cache"
        self._repo = job["repo"]
        self._api = hub.HfApi(endpoint=job["endpoint"], token=_token(job["token_file"]), library_name="ctd")

    def bring(self, versions: list[int]) -> None:
        """Upload what is missing, oldest first; the last must be there in the end."""
        refs = self._refs()
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        known = [int(found[1]) for name in tags if (found := _TAG.fullmatch(name))]
        head = next((branch.target_commit for branch in refs.branches if branch.name == _MAIN), None)
        for version in versions:
            tag, last = f"v{version}", version == versions[-1]
            folder = Path(self._job["base"], str(version))
            if tag in tags:
                if last and self._manifest(tags[tag]) != (folder / MANIFEST).read_bytes():
                    raise Refused(
                        f"{self._repo} has a tag {tag} already, of something else",
                        "Name another repository, or remove the tag there. Nothing is overwritten.",
                    )
                continue
            if not last and (max(known, default=0) > version or not folder.is_dir()):
                continue  # a newer one is there, or it was removed meanwhile
            if head is None or self._manifest(head) != (folder / MANIFEST).read_bytes():
                head = self._commit(folder, version, head)
            self._api.create_tag(self._repo, tag=tag, revision=head, exist_ok=True)

    def _refs(self) -> Any:
        """Branches and tags of the repository, which is made if it is not there."""
        try:
            return self._api.list_repo_refs(self._repo)
        except self._hub.errors.RepositoryNotFoundError:
            self._api.create_repo(self._repo, private=self._job["private"], exist_ok=True)
            return self._api.list_repo_refs(self._repo)

    def _manifest(self, commit: str) -> bytes | None:
        """A version's `model.json`, which has the digests of all its files, as a commit has it."""
        try:
            found = self._api.hf_hub_download(self._repo, MANIFEST, revision=commit, cache_dir=self._cache)
        except self._hub.errors.EntryNotFoundError:
            return None
        return Path(found).read_bytes()

    def _commit(self, folder: Path, version: int, head: str | None) -> str:
        """One commit that makes the repository this version; refused if somebody else was faster."""
        said = json.loads((folder / MANIFEST).read_text())
        operations = list(self._operations(folder, version, head))
        message = f"v{version}: model #{said['model']} of {said['pipeline']}"
        made = self._api.create_commit(
            self._repo, operations, commit_message=message, revision=_MAIN, parent_commit=head
        )
        return str(made.oid)

    def _operations(self, folder: Path, version: int, head: str | None) -> Iterator[Any]:
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        kept = {name: path for name, path in files.items() if name not in _LEFT_OUT}
        for name, path in kept.items():
            yield self._hub.CommitOperationAdd(name, str(path))
        card = self._job["front_matter"][str(version)] + (folder / CARD).read_text()
        yield self._hub.CommitOperationAdd(_README, card.encode())
        there = self._api.list_repo_files(self._repo, revision=head) if head else []
        for name in sorted(set(there) - kept.keys() - {_README} - _KEPT):
            yield self._hub.CommitOperationDelete(name, is_folder=False)


def _token(file: str) -> str | bool:
    """The token; False: none is sent, also none that the machine's user has."""
    if not file:
        return False
    try:
        token = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the token cannot be read: {_short(error)}", "Mend `token_file` of the target.") from error
    if not token or not token.isprintable() or " " in token:
        raise Refused(f"{file} holds no token", "Write the token into it, and nothing else.")
    return token


def _answered(error: Any, job: dict[str, Any]) -> Refused:
    """What the server said, in words that say what to do."""
    code = error.response.status_code
    if code in (401, 403):
        whose = f"the token in {job['token_file']}" if job["token_file"] else "who has no token"
        return Refused(f"{whose} may not write to {job['repo']} ({code})", "Mend `token_file` or `repo` of the target.")
    if code == 412:
        return Refused("somebody else has written to it at the same time", "It is tried again.")
    return Refused(
        f"{job['endpoint']} answers with {code}: {_short(error.server_message or error)}", "It is tried again."
    )


def _short(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300]


if __name__ == "__main__":
    main()
