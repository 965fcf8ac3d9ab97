"""The requests that a canary and the live version are both asked: made of real examples while TensorFlow is at hand.

They are kept as bytes beside the note of the push, so that whoever watches needs neither the model nor TensorFlow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ctd.components.api import Work
from ctd.components.canary_messages import REQUESTS_FILE, write_messages
from ctd.components.serving_requests import (
    DEFAULT_SIGNATURE,
    Feeds,
    last_split_records,
    load_signatures,
    missing_inputs,
    requests,
)
from ctd.core.errors import BadInput, TargetUnavailable
from ctd.serving import warmup
from ctd.serving.client import predict_request

_MOST = 50
_MOST_RECORDS = 1000


def write_requests(work: Work, model: Path, folder: Path) -> None:
    """Write requests to the model's default signature. Raises BadInput if none can be made."""
    loaded = load_signatures(str(model))
    signature = loaded.get(DEFAULT_SIGNATURE) or next(iter(loaded.values()), None)
    if signature is None:
        raise BadInput(f"{work.where}: the model has no signature", hint="Export one in run_fn.")
    seen: list[bytes] = []
    found: list[Feeds] = []
    for key in ("examples", "transformed_examples"):  # a signature of serialized examples takes raw ones
        records = last_split_records(work, key, _MOST_RECORDS)
        found = [request.feeds for request in requests(signature.inputs, records, _MOST)]
        if found:
            break
        seen += records
    found = found or list(itertools.islice(_stamped(model, signature.name), _MOST))
    if found:
        sent = [predict_request("", signature.name, feeds) for feeds in found]
        write_messages(folder / REQUESTS_FILE, [message.SerializeToString() for message in sent])
        return
    where = f"{work.where}: no request to signature {signature.name!r} can be made, so a canary cannot be watched"
    if not seen:
        raise TargetUnavailable(
            f"{where}: there are no examples yet",
            hint="It is tried again. A pipeline that reads no examples can have no canary: take `canary` out of the "
            "target's file.",
        )
    missing = ", ".join(missing_inputs(signature.inputs, seen) or tuple(signature.inputs))
    raise BadInput(
        f"{where}: no example has {missing} in the type and shape that it takes",
        hint="Wire examples to the pusher (`inputs: {examples: ..}`) that have what the signature takes, or take "
        "`canary` out of the target's file.",
    )


def _stamped(model: Path, signature: str) -> Iterator[Feeds]:
    """The warm-up requests that the InfraValidator put into the model."""
    return (request.feeds for request in warmup.read(model) if (request.signature or DEFAULT_SIGNATURE) == signature)
