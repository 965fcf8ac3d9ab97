"""An error of user code is told by its innermost message and the user's own line, whatever wraps it.

Each module below has `# HERE` on the line that must be named.
"""

import itertools
import sys
import textwrap
from pathlib import Path

import pytest

from ctd.components.api import load_module, user_code
from ctd.components.autograph import spare_keras_2
from ctd.components.beam_runner import on_beam
from ctd.components.user_errors import told
from ctd.core.errors import ComponentFailed
from ctd.core.work import Cancelled
from ctd.specs.beam import BeamRunner

pytestmark = pytest.mark.tf
_NUMBERS = itertools.count()

FIT = """
def run_fn(_):
    m = keras.Sequential([Mine(), keras.layers.Dense(1)])
    m.compile(loss="mse")
    m.fit(np.zeros([4, 5]), np.zeros(4), verbose=0)
"""

IN_GRAPHS = {
    "a dimension in a branch": (
        "ValueError: Dimension -1 must be >= 0",
        """
        def run_fn(_):
            @tf.function
            def g(x):
                if tf.reduce_sum(x) > 0:
                    x = x + 1
                return tf.ensure_shape(x, [-1, 2])  # HERE
            g(tf.zeros([2, 3]))
        """,
    ),
    "an index in a loop": (
        "InvalidArgumentError: indices[3] = 24 is not in [0, 10) (node while/GatherV2)",
        """
        def run_fn(_):
            @tf.function
            def g(x):
                for i in tf.range(2):
                    x = tf.gather(tf.range(10), x)  # HERE
                return x
            g(tf.constant([1, 2, 3, 24]))
        """,
    ),
    "an index in map_fn": (
        "InvalidArgumentError: indices = 5 is not in [0, 2) (node map/while/GatherV2)",
        """
        def run_fn(_):
            @tf.function
            def f(x):
                return tf.map_fn(lambda v: tf.gather([1, 2], v), x)  # HERE
            f(tf.constant([0, 5]))
        """,
    ),
    "without a graph": (
        "InvalidArgumentError: indices[3] = 24 is not in [0, 10)",
        """
        def run_fn(_):
            tf.nn.embedding_lookup(tf.zeros([10, 2]), [1, 2, 3, 24])  # HERE
        """,
    ),
    "an assertion of TensorFlow's": (
        "fares must be positive",
        """
        def run_fn(_):
            @tf.function
            def f(x):
                tf.debugging.assert_positive(x, message="fares must be positive")  # HERE
                return x
            f(tf.constant([-1.0]))
        """,
    ),
    "a variable of one branch": (
        "ValueError: 'y' must also be initialized in the else branch",
        """
        def run_fn(_):
            @tf.function
            def f(x):
                if tf.reduce_sum(x) > 0:  # HERE
                    y = 1.0
                return y
            f(tf.ones([2]))
        """,
    ),
    "XLA cannot compile an op": (
        "unsupported operations when trying to compile graph",
        """
        @tf.function(jit_compile=True)
        def f(x):
            return tf.strings.length(tf.strings.as_string(x))  # HERE
        def run_fn(_):
            f(tf.constant([1.0]))
        """,
    ),
    "shapes that XLA computes": (
        "Input to reshape is a tensor with 1 values, but the requested shape has 4",
        """
        @tf.function(jit_compile=True)
        def f(x):
            return tf.reshape(x, [tf.cast(x[0], tf.int32), 1])  # HERE
        def run_fn(_):
            f(tf.constant([4.0]))
        """,
    ),
    "a strategy": (
        "InvalidArgumentError: indices[0] = 9 is not in [0, 3)",
        """
        def step(x):
            return tf.gather(tf.range(3), x)  # HERE
        def run_fn(_):
            strategy = tf.distribute.MirroredStrategy(["CPU:0"])
            @tf.function
            def go(x):
                return strategy.run(step, args=(x,))
            go(tf.constant([9]))
        """,
    ),
}

IN_DATA = {
    "a map": (
        "InvalidArgumentError: StringToNumberOp could not correctly convert string: abc",
        """
        def parse(x):
            if tf.equal(x, "2"):
                return tf.constant(1.0)
            return tf.strings.to_number(x, tf.float32)  # HERE
        def run_fn(_):
            for _ in tf.data.Dataset.from_tensor_slices(["1.5", "abc"]).map(parse): pass
        """,
    ),
    "a map while it is traced": (
        "TypeError: Input 'y' of 'Add' Op has type int32 that does not match type string of argument 'x'.",
        """
        def parse(x):
            return x + 1  # HERE
        def run_fn(_):
            tf.data.Dataset.from_tensor_slices(["1.5"]).map(parse)
        """,
    ),
    "a map under fit": (
        "InvalidArgumentError: Input to reshape is a tensor with 2 values, but the requested shape has 3",
        """
        def parse(x):
            parts = tf.strings.to_number(tf.strings.split(x, ","), tf.float32)
            return tf.reshape(parts, [3]), 1.0  # HERE
        def run_fn(_):
            rows = tf.data.Dataset.from_tensor_slices(["1.5,2,3", "1,2"]).map(parse, num_parallel_calls=2).batch(2)
            m = keras2.Sequential([keras2.layers.Dense(1, input_shape=(3,))])
            m.compile(loss="mse")
            m.fit(rows, verbose=0)
        """,
    ),
    "examples without a feature": (
        "Feature: fare (data type: float) is required but could not be found.",
        """
        def parse(x):
            return tf.io.parse_single_example(x, {"fare": tf.io.FixedLenFeature([], tf.float32)})  # HERE
        def run_fn(_):
            for _ in tf.data.Dataset.from_tensors(tf.train.Example().SerializeToString()).map(parse): pass
        """,
    ),
    "Python in a map": (
        "raised ValueError: bad row a at",
        """
        def slow(x):
            raise ValueError(f"bad row {x.numpy().decode()}")  # HERE
        def run_fn(_):
            rows = tf.data.Dataset.from_tensor_slices(["a"])
            for _ in rows.map(lambda x: tf.py_function(slow, [x], tf.float32)): pass
        """,
    ),
    "a generator": (
        "raised OSError: the third party is away at",
        """
        def rows():
            yield 1.0
            raise OSError("the third party is away")  # HERE
        def run_fn(_):
            for _ in tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec([], tf.float32)): pass
        """,
    ),
    "rows that make no batch": (
        "Cannot batch tensors with different shapes in component 0. First element had shape [1]",
        """
        def rows():
            yield from ([1.0], [1.0, 2.0])
        def run_fn(_):
            made = tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec([None], tf.float32))
            for _ in made.batch(2): pass  # HERE
        """,
    ),
}

IN_KERAS = {
    "Keras 2: a layer": (
        "ValueError: Invalid value in tensor used for shape: -2",
        """
        keras = keras2
        class Mine(keras.layers.Layer):
            def call(self, x):
                if tf.reduce_sum(x) > 0:
                    x = x + 1
                return tf.reshape(x, [-2, 1])  # HERE
        """
        + textwrap.indent(FIT, " " * 8),
    ),
    "Keras 3: a layer": (
        "ValueError: Invalid value in tensor used for shape: -2",
        """
        class Mine(keras.layers.Layer):
            def call(self, x):
                return tf.reshape(x, [-2, 1])  # HERE
        """
        + textwrap.indent(FIT, " " * 8),
    ),
    "Keras 3: a layer in a layer": (
        "ValueError: the rank is 2, not 3",
        """
        class Inner(keras.layers.Layer):
            def call(self, x):
                raise ValueError("the rank is 2, not 3")  # HERE
        class Outer(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Inner()
            def call(self, x):
                return self.inner(x)
        def run_fn(_):
            Outer()(np.zeros([2, 3]))
        """,
    ),
    "Keras 2: numbers out of an embedding": (
        "InvalidArgumentError: indices[0,3] = 24 is not in [0, 10) (node sequential",
        """
        keras = keras2
        def run_fn(_):
            m = keras.Sequential([keras.layers.Embedding(10, 2), keras.layers.GlobalAveragePooling1D()])
            m.compile(loss="mse")
            m.fit(np.array([[1, 2, 3, 24]]), np.zeros([1, 2]), verbose=0)  # HERE
        """,
    ),
    "Keras 3: numbers out of an embedding": (
        "InvalidArgumentError: indices[0,3] = 24 is not in [0, 10) (node sequential",
        """
        def run_fn(_):
            m = keras.Sequential([keras.layers.Embedding(10, 2), keras.layers.GlobalAveragePooling1D()])
            m.compile(loss="mse")
            m.fit(np.array([[1, 2, 3, 24]]), np.zeros([1, 2]), verbose=0)  # HERE
        """,
    ),
    "Keras 2: a loss": (
        "`labels.shape.rank` must equal `logits.shape.rank - 1`",
        """
        def loss(y, p):
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.cast(y, tf.int32), logits=p)  # HERE
        def run_fn(_):
            m = keras2.Sequential([keras2.layers.Dense(3, input_shape=(5,))])
            m.compile(loss=loss)
            m.fit(np.zeros([4, 5]), np.zeros([4, 2]), verbose=0)
        """,
    ),
    "Keras 2: a train_step": (
        "InvalidArgumentError: Matrix size-incompatible: In[0]: [4,2], In[1]: [4,3]",
        """
        class M(keras2.Model):
            def __init__(self):
                super().__init__()
                self.d = keras2.layers.Dense(2)
            def train_step(self, data):
                x, y = data
                return {"loss": tf.reduce_sum(tf.matmul(self.d(x), y))}  # HERE
        def run_fn(_):
            m = M()
            m.compile()
            m.fit(np.zeros([4, 5]), np.zeros([4, 3]), verbose=0)
        """,
    ),
    "Keras 2: compiled by XLA": (
        "unsupported operations when trying to compile graph",
        """
        keras = keras2
        class Mine(keras.layers.Layer):
            def call(self, x):
                return tf.strings.to_number(tf.strings.as_string(x))  # HERE
        def run_fn(_):
            m = keras.Sequential([Mine()])
            m.compile(loss="mse", jit_compile=True)
            m.fit(np.zeros([4, 5]), np.zeros([4, 5]), verbose=0)
        """,
    ),
    "Keras 3: a metric": (
        "raised TypeError: no such thing at",
        """
        class Counted(keras.metrics.Metric):
            def update_state(self, y, p, sample_weight=None):
                raise TypeError("no such thing")  # HERE
            def result(self):
                return 0.0
        def run_fn(_):
            m = keras.Sequential([keras.layers.Dense(1)])
            m.compile(loss="mse", metrics=[Counted()])
            m.fit(np.zeros([4, 1]), np.zeros([4, 1]), verbose=0)
        """,
    ),
}

OF_PYTHON = {
    "raised from another": (
        "RuntimeError: the vocabulary cannot be read (caused by KeyError: 'vocab' at {file}:6) at {file}:11",
        """
        def load(p):
            return {}[p]
        def run_fn(_):
            try:
                load("vocab")
            except KeyError as error:
                raise RuntimeError("the vocabulary cannot be read") from error  # HERE
        """,
    ),
    "raised from one that was raised from another": (
        "RuntimeError: damaged (caused by ValueError: invalid literal for int() with base 10: 'twelve' at {file}:8) at",
        """
        def run_fn(_):
            try:
                try:
                    int("twelve")
                except ValueError as e:
                    raise KeyError("hours") from e
            except KeyError as error:
                raise RuntimeError("damaged") from error  # HERE
        """,
    ),
    "raised from another that it repeats": (
        "raised RuntimeError: step 3: no zone 7 at",
        """
        def run_fn(_):
            try:
                raise ValueError("no zone 7")
            except ValueError as error:
                raise RuntimeError(f"step 3: {error}") from error  # HERE
        """,
    ),
    "raised from none": (
        "raised RuntimeError: say x in custom_config at",
        """
        def run_fn(_):
            try:
                {}["x"]
            except KeyError:
                raise RuntimeError("say x in custom_config") from None  # HERE
        """,
    ),
    "raised over another": (
        "OSError: cannot clean up (caused by ValueError: invalid literal for int() with base 10: 'twelve' at {file}:9)",
        """
        def clean():
            raise OSError("cannot clean up")  # HERE
        def run_fn(_):
            try:
                int("twelve")
            except ValueError:
                clean()
        """,
    ),
    "in a thread": (
        "raised ZeroDivisionError: division by zero at",
        """
        from concurrent.futures import ThreadPoolExecutor
        def one(x): return 1 / x  # HERE
        def run_fn(_):
            with ThreadPoolExecutor(2) as pool: list(pool.map(one, [1, 0]))
        """,
    ),
    "in a pool of processes": (
        "raised ZeroDivisionError: division by zero at",
        """
        import multiprocessing
        def one(x): return 1 / x  # HERE
        def run_fn(_):
            with multiprocessing.get_context("fork").Pool(1) as pool: pool.map(one, [0])
        """,
    ),
    "in a Beam pipeline": (
        "ValueError: invalid literal for int() with base 10: 'x' [while running 'ParseThem'] at",
        """
        import apache_beam as beam
        def parse(x): return int(x)  # HERE
        def run_fn(_):
            with beam.Pipeline() as p:
                _ = p | beam.Create(["1", "x"]) | "ParseThem" >> beam.Map(parse)
        """,
    ),
    "in a combiner of Beam": (
        "TypeError: object of type 'int' has no len()",
        """
        import apache_beam as beam
        def total(xs):
            return sum(len(x) for x in xs)  # HERE
        def run_fn(_):
            with beam.Pipeline() as p:
                _ = p | beam.Create([1, 2]) | beam.CombineGlobally(total)
        """,
    ),
    "a text of several paragraphs": (
        "the config is wrong:\n  units must be positive\nsee the guide",
        """
        def run_fn(_):
            raise ValueError("the config is wrong:\\n\\n  units must be positive\\n\\nsee the guide")  # HERE
        """,
    ),
    "an assert without a text": (
        "AssertionError: assert x > 4",
        """
        def run_fn(_):
            x = 3
            assert x > 4  # HERE
        """,
    ),
    "a text that cannot be made": (
        "raised Bad: (its text cannot be made: ZeroDivisionError) at",
        """
        class Bad(Exception):
            def __str__(self): return 1 / 0
        def run_fn(_):
            raise Bad()  # HERE
        """,
    ),
    "code that does not parse": (
        "SyntaxError: '(' was never closed at",
        """
        def run_fn(_):
            exec("x = (")  # HERE
        """,
    ),
}

OF_NO_EXCEPTION = {
    "KeyboardInterrupt": ("raised KeyboardInterrupt at", "def run_fn(_):\n    raise KeyboardInterrupt  # HERE"),
    "GeneratorExit": ("raised GeneratorExit: gone at", 'def run_fn(_):\n    raise GeneratorExit("gone")  # HERE'),
    "StopIteration": ("raised StopIteration at", "def run_fn(_):\n    next(iter([]))  # HERE"),
    "SystemExit": ("called sys.exit(no data) at", 'def run_fn(_):\n    raise SystemExit("no data")  # HERE'),
    "a class of their own": (
        "raised Mine: of my own at",
        'class Mine(BaseException): pass\ndef run_fn(_):\n    raise Mine("of my own")  # HERE',
    ),
    "a task that was cancelled": (
        "raised CancelledError at",
        "import asyncio\nasync def f(): raise asyncio.CancelledError  # HERE\ndef run_fn(_):\n    asyncio.run(f())",
    ),
    "KeyboardInterrupt in a callback of Keras": (
        "raised KeyboardInterrupt at",
        """
        class Stop(keras.callbacks.Callback):
            def on_batch_end(self, *a, **k):
                raise KeyboardInterrupt  # HERE
        def run_fn(_):
            m = keras.Sequential([keras.layers.Dense(1)])
            m.compile(loss="mse")
            m.fit(np.zeros([4, 5]), np.zeros(4), verbose=0, callbacks=[Stop()])
        """,
    ),
    "KeyboardInterrupt in a map of tf.data": (
        "raised KeyboardInterrupt at",
        """
        def slow(x):
            raise KeyboardInterrupt  # HERE
        def run_fn(_):
            for _ in tf.data.Dataset.range(2).map(lambda x: tf.py_function(slow, [x], tf.float32)): pass
        """,
    ),
}

HEAD = "import numpy as np\nimport tensorflow as tf\nimport keras, tf_keras as keras2\n"


def failure(code: str, folder: Path) -> tuple[str, str, int]:
    """What a run_fn's failure says, its module, and the number of the line with HERE."""
    file = folder / f"module_{next(_NUMBERS)}.py"
    file.write_text(HEAD + textwrap.dedent(code))
    spare_keras_2()
    run_fn = load_module(str(file)).run_fn
    with pytest.raises(ComponentFailed) as error, user_code("run_fn", str(file)):
        run_fn(None)
    lines = file.read_text().split("\n")
    return error.value.message, str(file), next(i for i, line in enumerate(lines, 1) if "# HERE" in line)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(*case, id=name)
        for cases in (IN_GRAPHS, IN_DATA, IN_KERAS, OF_PYTHON, OF_NO_EXCEPTION)
        for name, case in cases.items()
    ],
)
def test_the_innermost_error_is_told_with_the_users_own_line(said: str, code: str, tmp_path: Path) -> None:
    message, file, line = failure(code, tmp_path)
    assert said.replace("{file}", file) in message
    assert message.endswith(f" at {file}:{line}")
    assert "autograph_generated" not in message


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_the_errors_of_a_group_are_told_at_any_depth(tmp_path: Path) -> None:
    code = """
    def run_fn(_):
        inner = ExceptionGroup("inner", [ValueError("a.csv is damaged"), OSError("b.csv is away")])
        raise ExceptionGroup("some files", [inner, TypeError("c"), KeyError("d"), KeyError("e")])  # HERE
    """
    message, file, line = failure(code, tmp_path)
    assert (
        "ExceptionGroup: some files (4 sub-exceptions): ValueError: a.csv is damaged; OSError: b.csv is away; "
        in message
    )
    assert message.endswith(f"TypeError: c; and 2 more at {file}:{line}")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
def test_notes_on_an_error_are_told(tmp_path: Path) -> None:
    code = 'def run_fn(_):\n    e = ValueError("bad")\n    e.add_note("in row 7")\n    raise e  # HERE'
    assert "ValueError: bad; in row 7 at" in failure(code, tmp_path)[0]


def test_a_request_to_stop_is_no_failure_of_the_users() -> None:
    with pytest.raises(Cancelled), user_code("run_fn"):
        raise Cancelled
    with pytest.raises(Cancelled), on_beam("evaluating", BeamRunner(runner="DirectRunner")):
        raise Cancelled


def test_whatever_ends_a_beam_pipeline_is_a_failure() -> None:
    beam = on_beam("evaluating", BeamRunner(runner="DirectRunner"))
    with pytest.raises(ComponentFailed, match="ended with KeyboardInterrupt"), beam:
        raise KeyboardInterrupt


def test_errors_that_no_one_can_look_into_are_told_all_the_same() -> None:
    class Odd(Exception):
        @property
        def exceptions(self) -> None:
            raise ZeroDivisionError

    assert str(told(Odd("odd"), None)) == "Odd: odd"
