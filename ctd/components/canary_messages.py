"""Requests as bytes in a file, from the push that makes them to the watch that sends them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from ctd.core.errors import BadInput

REQUESTS_FILE = "canary_requests.json"
LIVE_REQUESTS_FILE = "live_requests.json"
"""The same examples as the live version's signature takes them, where that is another one."""


def write_messages(path: Path, messages: Sequence[bytes]) -> None:
    """Write serialized PredictRequests."""
    path.write_text(json.dumps([base64.b64encode(message).decode() for message in messages]) + "\n")


def read_messages(path: Path) -> list[bytes]:
    """What `write_messages` wrote. Raises BadInput if it is not there."""
    try:
        return [base64.b64decode(text, validate=True) for text in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}",
            hint="The push that this watches was made when its target had no canary: the next push brings requests.",
        ) from error
