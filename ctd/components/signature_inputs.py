"""What a signature is asked with: values of the features that its inputs are called after, or whole tf.Examples.

One rule for all who ask: the InfraValidator and its warm-up requests, golden requests, canaries, the parity gate, the
Evaluator and `ctd request`. As TFMA has it: a feature of an input's name first, serialized examples only for a single
input of strings that no feature is called after. One thing goes before: a graph that parses features of these very
examples is given examples, though one of their features have the input's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence

STRING = 7  # DataType
_KERAS_SUFFIX = "_input"

Input = tuple[int, Sequence[int] | None]
"""DataType and shape of an input; -1 is any size, None any shape."""


def feature_of(name: str, features: Container[str]) -> str:
    """The feature that an input is called after, or nothing."""
    # Keras 2 names the input of a single layer after the layer.
    return next((found for found in (name, name.removesuffix(_KERAS_SUFFIX)) if found in features), "")


def takes_examples(
    inputs: Mapping[str, Input], features: Collection[str], parsed: Callable[[], Collection[str]]
) -> bool:
    """Whether a signature is asked with serialized tf.Examples that have these features.

    `parsed` says which features the signature's graph parses; it is asked only where names do not decide.
    """
    if len(inputs) != 1:
        return False
    ((name, (dtype, shape)),) = inputs.items()
    if dtype != STRING:
        return False
    if not feature_of(name, features):
        return shape is None or len(shape) == 1 or bool(parsed())
    return not set(features).isdisjoint(parsed())
