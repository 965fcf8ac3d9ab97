"""AutoGraph and Keras 2: TensorFlow 2.16 knows Keras as a library that needs no conversion by the name `keras` only.

Under its present name, tf_keras, all of it that a step of training calls is read as source, rewritten and compiled:
10 CPU seconds at the first step of every training, for the same graph.
"""

from __future__ import annotations

from tensorflow.python.autograph.core import config

# From here Keras calls functions of the user's, such as train_step, without having them converted itself.
_CALLER = "tf_keras.src.engine.training"
_RULES = (config.Convert(_CALLER), config.DoNotConvert("tf_keras"))


def spare_keras_2() -> None:
    """Have AutoGraph leave Keras 2 as it is, in this process. Users' models, layers and losses are converted as before.

    Only a Lambda layer's function no longer is, as it never was in functional models, nor in Keras by its old name.
    """
    if _RULES[0] not in config.CONVERSION_RULES:
        config.CONVERSION_RULES = (*_RULES, *config.CONVERSION_RULES)
