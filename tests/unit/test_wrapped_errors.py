"""The error in the middle of a text, as TensorFlow, AutoGraph, Keras, XLA and Beam write it."""

import pytest

from ctd.core.wrapped_errors import Frame, unwrapped

AUTOGRAPH = """in user code:

    File "/code/module.py", line 12, in run_fn  *
        x = tf.ensure_shape(x, [-1, 2])

    ValueError: Dimension -1 must be >= 0
"""
KERAS = """Exception encountered when calling Outer.call().

\x1b[1mException encountered when calling Inner.call().

\x1b[1mthe rank is 2, not 3\x1b[0m

Arguments received by Inner.call():
  \u2022 x=tf.Tensor(shape=(2, 3), dtype=float32)\x1b[0m

Arguments received by Outer.call():
  \u2022 x=tf.Tensor(shape=(2, 3), dtype=float32)
"""
KERAS_2 = """Exception encountered when calling layer 'mine' (type Mine).

in user code:

    File "/code/module.py", line 7, in call  *
        return tf.reshape(x, [-2, 1])

    ValueError: Invalid value in tensor used for shape: -2


Call arguments received by layer 'mine' (type Mine):
  \u2022 x=tf.Tensor(shape=(None, 5), dtype=float32)
"""
GRAPH = """Graph execution error:

Detected at node model/embedding/GatherV2 defined at (most recent call last):
  File "/code/module.py", line 8, in run_fn

  File "/lib/site-packages/keras/src/layers/core/embedding.py", line 90, in call

indices[0,3] = 24 is not in [0, 10)
\t [[{{node model/embedding/GatherV2}}]] [Op:__inference_one_step_on_iterator_718]"""
ROOTS = """Graph execution error:

2 root error(s) found.
  (0) INVALID_ARGUMENT:  Feature: fare (data type: float) is required but could not be found.
\t [[{{node ParseExample}}]]
  (1) CANCELLED:  Function was cancelled before it was started
0 successful operations.
0 derived errors ignored."""
PYTHON = """UNKNOWN: OSError: the third party is away
Traceback (most recent call last):

  File "/lib/site-packages/tensorflow/python/ops/script_ops.py", line 270, in __call__
    ret = func(*args)

  File "/code/module.py", line 4, in rows
    raise OSError("the third party is away")

OSError: the third party is away


\t [[{{node PyFunc}}]] [Op:IteratorGetNext] name: """


@pytest.mark.parametrize(
    ("text", "shown", "kind", "frame"),
    [
        pytest.param(
            AUTOGRAPH, "Dimension -1 must be >= 0", "ValueError", Frame("/code/module.py", 12), id="autograph"
        ),
        pytest.param(KERAS, "the rank is 2, not 3", "", None, id="Keras 3, nested"),
        pytest.param(
            KERAS_2,
            "Invalid value in tensor used for shape: -2",
            "ValueError",
            Frame("/code/module.py", 7),
            id="Keras 2 around autograph",
        ),
        pytest.param(
            GRAPH,
            "indices[0,3] = 24 is not in [0, 10) (node model/embedding/GatherV2)",
            "",
            Frame("/code/module.py", 8),
            id="graph",
        ),
        pytest.param(
            ROOTS,
            "Feature: fare (data type: float) is required but could not be found. (node ParseExample)",
            "",
            None,
            id="several roots",
        ),
        pytest.param(PYTHON, "the third party is away", "OSError", Frame("/code/module.py", 4), id="Python in a graph"),
        pytest.param("no column 'fare'", "no column 'fare'", "", None, id="nothing around it"),
        pytest.param("", "", "", None, id="nothing"),
    ],
)
def test_the_innermost_message_is_found(text: str, shown: str, kind: str, frame: Frame | None) -> None:
    said = unwrapped(text)
    assert (said.shown(), said.kind) == (shown, kind)
    assert frame is None or frame in said.frames


@pytest.mark.parametrize(
    "text",
    [
        "Graph execution error:\n",
        "in user code:\n",
        "Exception encountered when calling x\n",
        "Traceback (most recent call last):\n",
        "in user code:\n" * 50,
    ],
)
def test_a_text_that_ends_early_is_no_error_of_ours(text: str) -> None:
    assert isinstance(unwrapped(text).shown(paragraphs=True), str)


def test_what_a_colon_announces_is_part_of_the_message() -> None:
    assert unwrapped("columns differ:\n\n- fare\n\nschema { many lines }").shown() == "columns differ:\n- fare"


def test_a_long_message_says_that_there_is_more() -> None:
    assert unwrapped("\n".join(map(str, range(30)))).shown().endswith("11\n[18 more lines in the log]")
