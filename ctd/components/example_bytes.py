"""The kinds of features, their values in messages, and the order in which a serialized tf.Example has them."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class Kind(enum.IntEnum):
    """What a column holds."""

    BLANK = 0  # no value anywhere: a feature without a kind
    INT = 1
    FLOAT = 2
    STRING = 3


def values_of(feature: Any, kind: Kind) -> Any:
    """The feature's list for values of a kind, which from now on exists."""
    of_kind = {Kind.INT: feature.int64_list, Kind.FLOAT: feature.float_list, Kind.STRING: feature.bytes_list}[kind]
    of_kind.SetInParent()
    return of_kind.value


@functools.lru_cache(maxsize=8)
def map_order(names: tuple[str, ...]) -> Sequence[str]:
    """The order of keys in a deterministic serialization.

    Asked of protobuf, since its implementations differ (upb has `trip_id` before `trip`), and TFX's splits hash
    what the installed one gives.
    """
    features = {name: tf.train.Feature() for name in names}
    whole = tf.train.Features(feature=features).SerializeToString(deterministic=True)
    single = {tf.train.Features(feature={name: features[name]}).SerializeToString(): name for name in features}
    ordered, position = [], 0
    while position < len(whole):
        end = next(place for place in range(position + 1, len(whole)) if whole[place] < 0x80) + 1
        end += sum((byte & 0x7F) << 7 * place for place, byte in enumerate(whole[position + 1 : end]))
        ordered.append(single[whole[position:end]])
        position = end
    return tuple(ordered)
