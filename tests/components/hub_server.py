"""A server on the loopback that speaks the part of the Hugging Face Hub's HTTP API that uploads and downloads need.

Written against what `huggingface_hub` sends and expects. Files are on disk; commits are whole or not there, and refused
when their parent is not the head. Small files travel in the commit, large ones (here: over 1 kB) before it by LFS.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

_LFS_FROM = 1024
_REPO = r"([\w.-]+/[\w.-]+)"


@dataclass
class Commit:
    """Files by path, each with the digest under which its bytes are kept, and whether they came by LFS."""

    oid: str
    title: str
    files: dict[str, tuple[str, bool]]


@dataclass
class Repo:
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        oid = self.commits[-1].oid if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)


@dataclass
class Hub:
    """The server's state. `before` and `after` are called with method and path of each request, when it arrives and
    when it is done but not yet answered: to wait there, or to be down.
    """

    folder: Path
    token: str
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    before: Callable[[str], None] = lambda request: None
    after: Callable[[str], None] = lambda request: None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / digest).write_bytes(content)
        return digest

    def commit(self, repo: Repo, title: str, files: dict[str, tuple[str, bool]]) -> Commit:
        said = json.dumps([len(repo.commits), title, files])
        made = Commit(hashlib.sha1(said.encode()).hexdigest(), title, files)  # noqa: S324  as git does
        repo.commits.append(made)
        return made


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Broken(Exception):
    """What `before` and `after` raise to have the connection cut without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        said = self._said = f"{self.command} {path}"
        try:
            self.hub.before(said)
            with self.hub.lock:
                self._allowed(path)
                self._route(path, body)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self._answer({"error": str(refused)}, refused.status, headers)
        except (Broken, ConnectionError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815  as http.server names them

    def _route(self, path: str, body: bytes) -> None:
        for method, pattern, action in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split():
                action(self, body, *found.groups())
                return
        raise Refused(404, f"no route for {self._said}")

    def _allowed(self, path: str) -> None:
        if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise Refused(401, "Invalid username or password.")

    def _answer(self, said: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(said).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.hub.after(self._said)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _repo(self, name: str) -> Repo:
        if name not in self.hub.repos:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return self.hub.repos[name]

    def _at(self, name: str, revision: str) -> Commit:
        found = self._repo(name).at(revision)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def create(self, body: bytes) -> None:
        said = json.loads(body)
        name = f"{said['organization']}/{said['name']}"
        if name in self.hub.repos:
            raise Refused(409, "You already created this model repo")
        repo = self.hub.repos[name] = Repo()
        self.hub.commit(repo, "initial commit", {".gitattributes": (self.hub.keep(b"*.bin filter=lfs\n"), False)})
        self._answer({"url": f"{self.hub.url}/{name}"})

    def validate(self, body: bytes) -> None:
        found = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        said = yaml.safe_load(found[1]) if found else {}
        wrong = [key for key in ("tags", "metrics") if not isinstance(said.get(key, []), list)]
        self._answer(
            {"errors": [{"message": f"{key} is no list"} for key in wrong], "warnings": []}, 400 if wrong else 200
        )

    def preupload(self, body: bytes, name: str, _revision: str) -> None:
        self._repo(name)
        files = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] > _LFS_FROM else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self._answer({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        self._repo(name)
        asked = json.loads(body)["objects"]
        for found in asked:
            if not (self.hub.folder / found["oid"]).exists():
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{found['oid']}"}}
        self._answer({"transfer": "basic", "objects": asked})

    def store(self, body: bytes, oid: str) -> None:
        if self.hub.keep(body) != oid:
            raise Refused(400, "the content has another digest")
        self._send(b"", 200, {})

    def commit(self, body: bytes, name: str, _revision: str) -> None:
        repo = self._repo(name)
        files, title = dict(repo.commits[-1].files), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in (None, repo.commits[-1].oid):
                        raise Refused(412, "A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = (self.hub.keep(base64.b64decode(value["content"])), False)
                case "lfsFile":
                    if not (self.hub.folder / value["oid"]).exists():
                        raise Refused(400, f"{value['path']} was not uploaded")
                    files[value["path"]] = (value["oid"], True)
                case "deletedFile":
                    if files.pop(value["path"], None) is None:
                        raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        made = self.hub.commit(repo, title, files)
        self._answer({"commitOid": made.oid, "commitUrl": f"{self.hub.url}/{name}/commit/{made.oid}"})

    def tag(self, body: bytes, name: str, revision: str) -> None:
        tag = json.loads(body)["tag"]
        if tag in self._repo(name).tags:
            raise Refused(409, "Tag already exists")
        self._repo(name).tags[tag] = self._at(name, revision).oid
        self._answer({})

    def refs(self, _body: bytes, name: str) -> None:
        repo = self._repo(name)
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": oid} for t, oid in repo.tags.items()]
        head = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1].oid}
        self._answer({"branches": [head], "converts": [], "tags": tags})

    def info(self, _body: bytes, name: str, revision: str = "main") -> None:
        found = self._at(name, revision)
        files = [{"rfilename": path} for path in found.files]
        self._answer({"id": name, "sha": found.oid, "private": False, "siblings": files})

    def tree(self, _body: bytes, name: str, revision: str) -> None:
        files = self._at(name, revision).files.items()
        self._answer(
            [
                {"type": "file", "path": path, "oid": oid[:40], "size": (self.hub.folder / oid).stat().st_size}
                for path, (oid, _) in files
            ]
        )

    def resolve(self, _body: bytes, name: str, revision: str, path: str) -> None:
        found = self._at(name, revision)
        if path not in found.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        oid, lfs = found.files[path]
        content = (self.hub.folder / oid).read_bytes()
        headers = {"X-Repo-Commit": found.oid, "ETag": f'"{oid[:40]}"'}
        if lfs:
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        self._send(content, 200, headers)


_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_REPO}/preupload/([^/]+)", _Handler.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", _Handler.store),
    ("POST", rf"/api/models/{_REPO}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/api/models/{_REPO}/tag/([^/]+)", _Handler.tag),
    ("GET", rf"/api/models/{_REPO}/refs", _Handler.refs),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/([^/]+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/([^/]+)", _Handler.tree),
    ("GET HEAD", rf"/{_REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
]


@contextlib.contextmanager
def running(folder: Path, token: str, port: int = 0, hub: Hub | None = None) -> Iterator[Hub]:
    """The server; with `hub` the one from before, at its port."""
    hub = hub or Hub(folder, token)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
