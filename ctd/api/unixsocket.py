"""The daemon's socket as server and client see it, whatever the length of its path (the kernel takes 107 bytes)."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import pwd
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ctd.core.errors import CtdError, NotFound, NotPossible

_ROOM = 0.02  # seconds until the daemon may have room for another connection


class NoDaemon(CtdError):
    """No daemon answers on the socket."""


class Refused(CtdError):
    """The daemon answered with an error."""


_ERRORS: Mapping[int, type[CtdError]] = {
    http.client.NOT_FOUND: NotFound,
    http.client.CONFLICT: NotPossible,
}


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A short name for the path, through its directory's descriptor."""
    folder = os.open(path.parent, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listening(path: Path, mode: int = 0o660) -> socket.socket:
    """A socket bound at `path`, replacing what a dead daemon left there."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            server.bind(address)
        path.chmod(mode)
        server.listen()  # who comes before there is anybody to answer waits
    except OSError:
        server.close()
        raise
    return server


def _connected(path: Path, timeout: float) -> socket.socket:
    """A connection, as soon as there is room in the daemon's queue for one. Raises OSError."""
    until = time.monotonic() + timeout
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(timeout)
            with _address(path) as address:
                client.connect(address)
        except BlockingIOError:  # the queue is full: unix sockets do not wait for that by themselves
            client.close()
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            time.sleep(_ROOM)
        except OSError:
            client.close()
            raise
        else:
            return client


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._patience = timeout

    def connect(self) -> None:
        self.sock = _connected(self._path, self._patience)


def peer(connected: socket.socket) -> str:
    """Who is at the other end, as the kernel knows it: a user's name, or number where it has none."""
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", said)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def listens(path: Path) -> bool:
    """Whether a daemon listens there, even if this user may not ask it."""
    try:
        _connected(path, timeout=1).close()
    except (PermissionError, TimeoutError):
        return True
    except OSError:
        return False
    return True


def get(path: Path, url: str, timeout: float = 10) -> Any:
    """The daemon's answer as JSON.

    Raises NoDaemon if none runs, NotFound for what it does not know, Refused if it cannot answer.
    """
    return _answer(path, "GET", url, None, timeout)


def post(path: Path, url: str, body: str | bytes, timeout: float = 10) -> Any:
    """The daemon's answer to JSON. Raises as `get` does, and NotPossible for what makes no sense as things are."""
    return _answer(path, "POST", url, body, timeout)


def _answer(path: Path, method: str, url: str, body: str | bytes | None, timeout: float) -> Any:
    connection = _Connection(path, timeout)
    try:
        connection.request(method, url, body)
        response = connection.getresponse()
        answer = response.read()
    except TimeoutError as error:
        message = f"the daemon did not answer within {timeout:g} s"
        raise Refused(message, hint="It is very busy or hangs: look at its log, or ask again.") from error
    except PermissionError as error:
        raise Refused(f"{path} may not be used", hint="Be its owner or of its group, or use sudo.") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoDaemon(f"no daemon answers on {path}", hint="Start one with `ctd run`.") from error
    finally:
        connection.close()
    if response.status == http.client.OK:
        return json.loads(answer)
    try:
        said = json.loads(answer)
    except ValueError as error:
        hint = "Its log says why; if it was started by another version of ctd, restart it."
        raise Refused(f"the daemon failed to answer ({response.status})", hint=hint) from error
    raise _ERRORS.get(response.status, Refused)(said["error"], hint=said["hint"])
