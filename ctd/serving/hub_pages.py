"""A hub folder over HTTP: what `hub.load("http://host:port/PUBLISHER/PIPELINE/VERSION")` asks for, and its cards.

Only whole versions that a push has made are shown: `model.json`, the card and the archive. Names are taken apart and
checked before the disk is touched, and nothing outside the folder is ever read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote

import orjson
from starlette.responses import FileResponse, Response

from ctd.serving.errors import Code, ServingError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_VERSION = re.compile(r"[0-9]+")
_ARCHIVE, _CARD, _MANIFEST = "model.tar.gz", "MODEL_CARD.md", "model.json"
_FOR_EVER = "public, max-age=31536000, immutable"  # a version never changes; clients may keep it


@dataclass(frozen=True)
class HubPages:
    """The versions below one folder."""

    root: Path

    def answer(self, path: str, query: str, if_none_match: str) -> Response:
        """The response to a GET or HEAD; ServingError NOT_FOUND for what is not there."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts == [""]:
            return Response(orjson.dumps({"models": self.models()}), media_type="application/json")
        folder = self._folder(parts)
        wants_archive = parse_qs(query).get("tf-hub-format") == ["compressed"]
        file = folder / (_ARCHIVE if wants_archive else _CARD)
        if not file.is_file():
            raise _not_found(f"{'/'.join(parts)} has no {file.name}")
        # The manifest holds the digest of every file: equal manifests are equal versions.
        digest = hashlib.sha256((folder / _MANIFEST).read_bytes()).hexdigest()
        headers = {
            "ETag": f'"{digest}-{file.suffix[1:]}"',
            "Cache-Control": _FOR_EVER,
            "X-Content-Type-Options": "nosniff",
        }
        if headers["ETag"] in (tag.strip() for tag in if_none_match.split(",")):
            return Response(status_code=304, headers=headers)
        kind = "application/gzip" if wants_archive else "text/markdown; charset=utf-8"
        return FileResponse(file, media_type=kind, headers=headers)

    def models(self) -> list[Mapping[str, object]]:
        """Every model with its versions, newest last."""
        versions: dict[str, list[int]] = {}
        for model in (*_folders(self.root), *(deeper for each in _folders(self.root) for deeper in _folders(each))):
            for folder in _folders(model):
                if _VERSION.fullmatch(folder.name) and (handle := self._handle(folder)):
                    versions.setdefault(handle, []).append(int(folder.name))
        return [{"handle": handle, "versions": sorted(versions[handle])} for handle in sorted(versions)]

    def _folder(self, parts: list[str]) -> Path:
        """The folder of a version; the handle must name one, because what is fetched is kept for ever."""
        handle = "/".join(parts)
        if not all(map(_NAME.fullmatch, parts)):
            raise _not_found("there is no such page")
        if len(parts) != 3 or not _VERSION.fullmatch(parts[2]):
            raise _not_found(f"{handle} names no version: ask for PUBLISHER/MODEL/VERSION; the list of models is at /")
        # A target's path may or may not name the publisher; the version's own manifest says whose it is.
        for folder in (self.root.joinpath(*parts), self.root.joinpath(*parts[1:])):
            if self._handle(folder) == "/".join(parts[:2]):
                return folder
        raise _not_found(f"there is no version {handle}; the list of models is at /")

    def _handle(self, version: Path) -> str:
        """Publisher and model, as the manifest of a version says; empty for what is none, or not in the folder."""
        try:
            if not version.resolve().is_relative_to(self.root.resolve()):
                return ""
            return str(orjson.loads((version / _MANIFEST).read_bytes())["handle"])
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            return ""


def _folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from (each for each in sorted(parent.iterdir()) if _NAME.fullmatch(each.name) and each.is_dir())


def _not_found(message: str) -> ServingError:
    return ServingError(Code.NOT_FOUND, message)
