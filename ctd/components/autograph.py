"""AutoGraph and Keras 2: TensorFlow 2.16 knows Keras as a library that needs no conversion by the name `keras` only.

Under its present name, tf_keras, all of it that a step of training calls is read as source, rewritten and compiled:
some 10 CPU seconds at the first step of every training, for the same graph.
"""

from __future__ import annotations

from tensorflow.python.autograph.core import config

# Conversion goes from caller to called, so what calls functions of the user's must be converted itself: models, layers
# with an activation, optimizers with their schedules and constraints. These call none, or, as losses and metrics do,
# convert them themselves; functional models were built by calling their layers unconverted.
_SPARED = {
    "": "activations backend_config constraints dtensor initializers losses metrics regularizers",
    "engine.": "compile_utils data_adapter functional input_spec node",
    "layers.": "activation merging pooling regularization reshaping",
    "layers.core.": "embedding masking",
    "layers.normalization.": "batch_normalization group_normalization layer_normalization unit_normalization",
    "layers.preprocessing.": "category_encoding discretization hashing index_lookup integer_lookup normalization "
    "preprocessing_utils string_lookup",
    "optimizers.": "adadelta adafactor adagrad adam adamax adamw ftrl lion nadam rmsprop sgd utils",
    "utils.": "control_flow_util generic_utils layer_utils losses_utils metrics_utils object_identity tf_inspect "
    "tf_utils",
}
_RULES = tuple(
    config.DoNotConvert(f"tf_keras.src.{package}{name}") for package, names in _SPARED.items() for name in names.split()
)


def spare_keras_2() -> None:
    """Have AutoGraph leave these parts of Keras 2 as they are, in this process. What users write is converted still.

    But for one thing: a loss that overrides `__call__`, where Keras means `call`, no longer is.
    """
    if _RULES[0] not in config.CONVERSION_RULES:
        config.CONVERSION_RULES = (*_RULES, *config.CONVERSION_RULES)
