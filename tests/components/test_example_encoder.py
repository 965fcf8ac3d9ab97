"""Examples put together by columns are, byte by byte, those of tfx_bsl's encoder in one order."""

import numpy as np
import pyarrow as pa
import pytest
from tensorflow_metadata.proto.v0.schema_pb2 import BYTES, FLOAT, INT, Schema
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from ctd.components.example_encoder import encode
from ctd.components.examples_io import canonical

pytestmark = pytest.mark.tf

KINDS = {"f": (FLOAT, pa.float32()), "i": (INT, pa.int64()), "b": (BYTES, pa.large_binary())}
LIMITS = [0, 1, -1, 127, 128, 2**31, -(2**63), 2**63 - 1]


def batch(**columns: list) -> pa.RecordBatch:
    """Columns named by the kind of their values and anything else: `f_miles`."""
    arrays = [pa.array(rows, pa.large_list(KINDS[name[0]][1])) for name, rows in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, [*columns])


def by_tfx_bsl(rows: pa.RecordBatch) -> list[bytes]:
    said = Schema()
    for name in rows.schema.names:
        said.feature.add(name=name, type=KINDS[name[0]][0])
    return [canonical(record) for record in RecordBatchToExamplesEncoder(said).encode(rows)]


def many(rows: int) -> pa.RecordBatch:
    chance = np.random.default_rng(1)
    sizes = chance.integers(1, 40, rows)
    return batch(
        f_one=[[float(x)] for x in chance.normal(size=rows)],
        f_several=[chance.normal(size=size).astype(np.float32).tolist() for size in sizes],
        i_few=[[int(x)] for x in chance.integers(-3, 3, rows)],
        i_several=[chance.choice(np.array(LIMITS), size).tolist() for size in sizes],
        b_words=[[chance.choice([b"", b"Cash", b"\xff\x00", b"x" * 300]) for _ in range(size)] for size in sizes],
        f_o=[[float("nan")]] * rows,
    )


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(many(200), id="many"),
        pytest.param(many(20).slice(5, 9), id="a slice"),
        pytest.param(batch(i_limits=[[limit] for limit in LIMITS]), id="limits"),
        pytest.param(batch(f_none=[], i_none=[]), id="no rows"),
    ],
)
def test_they_are_those_of_tfx_bsl(rows: pa.RecordBatch) -> None:
    assert encode(rows) == by_tfx_bsl(rows)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(batch(i_empty=[[1], []]), id="an empty row"),
        pytest.param(batch(f_null=[[1.0], None]), id="a row that is null"),
        pytest.param(pa.RecordBatch.from_pydict({"d": pa.array([[1.0]], pa.list_(pa.float64()))}), id="another type"),
        pytest.param(pa.RecordBatch.from_pydict({"n": pa.array([1.0], pa.float32())}), id="no lists"),
    ],
)
def test_what_it_does_not_know_it_leaves(rows: pa.RecordBatch) -> None:
    assert encode(rows) is None
