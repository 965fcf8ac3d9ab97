"""The requests that a canary and the live version are both asked: made of real examples while TensorFlow is at hand.

They are kept as bytes beside the note of the push, so that whoever watches needs neither the model nor TensorFlow.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from ctd.components import declared_ops
from ctd.components.api import Work
from ctd.components.canary_messages import LIVE_REQUESTS_FILE, REQUESTS_FILE, write_messages
from ctd.components.serving_requests import (
    DEFAULT_SIGNATURE,
    Feeds,
    Request,
    Signature,
    Takes,
    features_of,
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


def write_requests(work: Work, model: Path, live: Path | None, folder: Path) -> None:
    """Write requests to the model's default signature, and to that of the live version if it takes something else.

    Raises BadInput if none can be made.
    """
    declared_ops.register_blessed(work)
    loaded = load_signatures(str(model))
    signature = loaded.get(DEFAULT_SIGNATURE) or next(iter(loaded.values()), None)
    if signature is None:
        raise BadInput(f"{work.where}: the model has no signature", hint="Export one in run_fn.")
    seen: list[bytes] = []
    found: list[Feeds] = []
    before: list[Feeds] = []
    # A signature of serialized examples takes raw ones, unless it takes a feature that only the others have.
    inputs = {key: last_split_records(work, key, _MOST_RECORDS) for key in ("examples", "transformed_examples")}
    features = features_of(itertools.chain.from_iterable(inputs.values()))
    for records in inputs.values():
        made = list(requests(signature.takes, records, _MOST, features))
        found, before = [request.feeds for request in made], _as_before(live, signature, made, records, features)
        if found:
            break
        seen += records
    found = found or list(itertools.islice(_stamped(model, signature.name), _MOST))
    if found:
        for name, of_version in ((REQUESTS_FILE, found), (LIVE_REQUESTS_FILE, before)):
            sent = [predict_request("", signature.name, feeds) for feeds in of_version]
            if sent:
                write_messages(folder / name, [message.SerializeToString() for message in sent])
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


def _as_before(
    live: Path | None,
    signature: Signature,
    made: Sequence[Request],
    records: Sequence[bytes],
    features: Collection[str],
) -> list[Feeds]:
    """The same examples as the live version takes them; nothing if it takes the same, or not all of them."""
    takes = Takes(_inputs(live, signature.name), str(live), signature.name) if live else None
    if takes is None or not takes.inputs or _same(takes, signature.takes, features):
        return []
    found = [next(requests(takes, [records[request.number - 1]], 1, features), None) for request in made]
    feeds = [request.feeds for request in found if request]
    return feeds if len(feeds) == len(made) else []


def _same(one: Takes, other: Takes, features: Collection[str]) -> bool:
    """Whether both are asked the same: an input of strings may be of texts in one and of examples in the other."""
    types = [{name: spec.dtype for name, spec in takes.inputs.items()} for takes in (one, other)]
    return types[0] == types[1] and one.examples_with(features) == other.examples_with(features)


def _inputs(model: Path, signature: str) -> dict[str, tf.TensorSpec]:
    """What a signature takes, read without loading the model; nothing if that cannot be read."""
    try:
        described = loader_impl.parse_saved_model(str(model)).meta_graphs[0].signature_def[signature].inputs
        return {
            name: tf.TensorSpec(tf.TensorShape(of.tensor_shape), tf.dtypes.as_dtype(of.dtype), name)
            for name, of in described.items()
        }
    except (OSError, ValueError, IndexError):
        return {}


def _stamped(model: Path, signature: str) -> Iterator[Feeds]:
    """The warm-up requests that the InfraValidator put into the model."""
    return (request.feeds for request in warmup.read(model) if (request.signature or DEFAULT_SIGNATURE) == signature)
