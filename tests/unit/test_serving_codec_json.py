"""Predict requests and answers as JSON, by TensorFlow Serving's rules."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctd.serving.codec import Array, ElementType, element_type, strings
from ctd.serving.errors import Code, ServingError
from ctd.serving.json_answers import encode_predict
from ctd.serving.json_codec import Format, PredictBody, parse_predict, tensors

FLOAT, DOUBLE, INT32, INT8, STRING, INT64, BOOL, UINT64, HALF = (
    element_type(number) for number in (1, 2, 3, 6, 7, 9, 10, 23, 19)
)


def parsed(document: Any, **inputs: Any) -> dict[str, Array]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return tensors(parse_predict(body), inputs)


def complaint(document: Any, **inputs: Any) -> str:
    with pytest.raises(ServingError) as caught:
        parsed(document, **inputs)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_rows_of_plain_values_are_a_batch_of_the_single_input() -> None:
    x = parsed({"instances": [1.0, 2, 3.5]}, x=FLOAT)["x"]
    assert x.dtype == np.float32
    assert x.tolist() == [1.0, 2.0, 3.5]


def test_rows_may_be_lists_of_lists() -> None:
    assert parsed({"instances": [[[1, 2]], [[3, 4]]]}, x=INT32)["x"].shape == (2, 1, 2)


def test_rows_of_objects_name_their_inputs() -> None:
    inputs = parsed({"instances": [{"a": [1.0], "b": "x"}, {"a": [2.0], "b": "y"}]}, a=FLOAT, b=STRING)
    assert inputs["a"].tolist() == [[1.0], [2.0]]
    assert inputs["b"].tolist() == [b"x", b"y"]


def test_columns_hold_a_tensor_per_input() -> None:
    inputs = parsed({"inputs": {"a": [[1], [2]], "b": [True, False]}}, a=INT64, b=BOOL)
    assert inputs["a"].tolist() == [[1], [2]]
    assert inputs["b"].tolist() == [True, False]


def test_a_column_request_with_one_input_needs_no_name() -> None:
    assert parsed({"inputs": [[1.0, 2.0]]}, x=FLOAT)["x"].tolist() == [[1.0, 2.0]]
    assert parsed({"inputs": 3.0}, x=FLOAT)["x"].shape == ()


def test_bytes_come_as_base64_objects() -> None:
    assert parsed({"instances": [{"b64": "AAEC"}, "text"]}, x=STRING)["x"].tolist() == [b"\x00\x01\x02", b"text"]
    assert parsed({"inputs": {"b64": "aGk"}}, x=STRING)["x"].tolist() == b"hi"
    assert parsed({"instances": [{"x": {"b64": "aGk="}}]}, x=STRING)["x"].tolist() == [b"hi"]


def test_not_a_number_and_infinity_are_accepted() -> None:
    x = parsed(b'{"instances": [NaN, Infinity, -Infinity]}', x=FLOAT)["x"]
    assert math.isnan(x[0])
    assert x[1:].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("document", "stem"),
    [
        pytest.param(b"", "JSON Parse error: The document is empty", id="empty"),
        pytest.param(b"{", "JSON Parse error: ", id="broken"),
        pytest.param(b"\xff", "JSON Parse error: ", id="not UTF-8"),
        pytest.param(b'{"instances": ["\\ud800"]}', "The surrogate pair in string is invalid", id="half a pair"),
        pytest.param([1], "Is not object", id="a list"),
        pytest.param({}, "Missing 'inputs' or 'instances' key", id="neither format"),
        pytest.param({"inputs": [1], "instances": [1]}, "expecting only one of 'inputs' or 'instances'", id="both"),
        pytest.param({"instances": 1}, "Excepting 'instances' to be an list/array", id="instances is no list"),
        pytest.param({"instances": []}, "No values in 'instances' array", id="no instances"),
        pytest.param({"instances": [1], "signature_name": 3}, "'signature_name' key must be a string", id="signature"),
        pytest.param({"instances": ["a"]}, 'JSON Value: "a" Type: String is not of expected type: float', id="text"),
        pytest.param({"instances": [True]}, "Type: True is not of expected type: float", id="a truth value"),
        pytest.param({"instances": [1.0, None]}, "Type: Null is not of expected type: float", id="null"),
        pytest.param({"instances": [1.0, 16777217]}, "without loss of precision", id="an integer float cannot hold"),
        pytest.param({"instances": [1e39]}, "without loss of precision", id="too large for float"),
        pytest.param({"instances": [[1.0], [1.0, 2.0]]}, "Expecting tensor size: 1 but got: 2", id="sizes differ"),
        pytest.param({"instances": [[1.0, 2.0], [[1.0], [2.0]]]}, "Expecting shape [2] but got: [2,1]", id="shapes"),
        pytest.param({"instances": [[[1.0], [1.0, 2.0]]]}, "Encountered list at unexpected size: 2", id="ragged"),
        pytest.param({"instances": [[1.0, [2.0]]]}, "Encountered list at unexpected level", id="too deep"),
        pytest.param({"instances": [[[1.0], 2.0]]}, "found at incorrect level", id="too shallow"),
        pytest.param({"instances": [{"y": 1.0}]}, "JSON object: does not have named input: y", id="unknown input"),
        pytest.param({"instances": [1.0, {"x": 1.0}]}, "Expecting value/list but got object at item 1", id="mixed"),
        pytest.param({"instances": [{"x": 1.0}, 1.0]}, "Expecting object but got list at item 1", id="mixed, too"),
    ],
)
def test_a_request_that_does_not_fit_is_told_why(document: Any, stem: str) -> None:
    assert stem in complaint(document, x=FLOAT)


def test_the_complaint_names_the_element_and_the_key() -> None:
    message = complaint({"instances": [{"a": 1, "b": 1}, {"a": 1, "b": "x"}]}, a=INT32, b=INT32)
    assert message.startswith("Failed to process element: 1 key: b of 'instances' list. Error: INVALID_ARGUMENT: ")


def test_every_input_must_be_there() -> None:
    assert "keys must be equal to: a,b" in complaint({"instances": [{"a": 1}]}, a=INT32, b=INT32)
    assert "Missing named input: b in 'inputs' object" in complaint({"inputs": {"a": 1}}, a=INT32, b=INT32)
    assert "instances is a plain list" in complaint({"instances": [1]}, a=INT32, b=INT32)
    assert "inputs is a plain value/list" in complaint({"inputs": [1]}, a=INT32, b=INT32)


@pytest.mark.parametrize("value", [1.0, 1.5, True, "1", 2**31, -(2**31) - 1])
def test_only_integers_in_range_are_integers(value: Any) -> None:
    assert "is not of expected type: int32" in complaint({"instances": [value]}, x=INT32)


def test_the_range_of_small_integers_is_kept() -> None:
    assert parsed({"instances": [-128, 127]}, x=INT8)["x"].dtype == np.int8
    assert "is not of expected type: int8" in complaint({"instances": [128]}, x=INT8)
    assert parsed({"instances": [2**64 - 1]}, x=UINT64)["x"].tolist() == [2**64 - 1]


def test_bad_base64_is_refused() -> None:
    assert "Unable to base64 decode" in complaint({"instances": [{"b64": "?"}]}, x=STRING)
    assert "not formatted correctly for base64" in complaint({"inputs": [{"b64": 3}]}, x=STRING)


def test_types_without_a_json_form_are_unimplemented() -> None:
    with pytest.raises(ServingError) as caught:
        parsed({"instances": [1.0]}, x=HALF)
    assert caught.value.code is Code.UNIMPLEMENTED


def test_a_signature_without_inputs_cannot_be_asked() -> None:
    assert "Failed to get input map for signature: DEFAULT" in complaint({"instances": [1.0]})


def test_deep_nesting_is_an_answer_and_no_crash() -> None:
    assert "JSON" in complaint(b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", x=FLOAT)


@pytest.mark.parametrize(
    "number", ["1e999", "-1E999", "9" * 400, "-" + "9" * 5000, "9" * 5000 + ".5"], ids=lambda number: number[:6]
)
def test_a_number_that_no_double_holds_is_a_parse_error(number: str) -> None:
    for body in (f'{{"instances": [{number}]}}', f'{{"instances": [NaN, {number}]}}'):
        with pytest.raises(ServingError, match="JSON Parse error: Number too big to be stored in double") as refused:
            parse_predict(body.encode())
        assert refused.value.code is Code.INVALID_ARGUMENT


def test_an_integer_beyond_64_bits_is_a_double_with_and_without_nan_beside_it() -> None:
    for body in (b'{"inputs": [18446744073709551616]}', b'{"inputs": [18446744073709551616, NaN]}'):
        assert tensors(parse_predict(body), {"x": DOUBLE})["x"][0] == 2.0**64
    largest = parse_predict(b'{"inputs": [18446744073709551615, NaN]}').value[0]
    assert (largest, type(largest)) == (2**64 - 1, int)


def test_long_values_are_cut_in_messages() -> None:
    assert len(complaint({"instances": ["a" * 10_000]}, x=FLOAT)) < 500


def answer(form: Format = Format.ROW, **outputs: Any) -> Any:
    return json.loads(encode_predict({name: np.asarray(value) for name, value in outputs.items()}, form))


def test_a_single_output_is_unwrapped() -> None:
    assert answer(y=[[1.0], [2.0]]) == {"predictions": [[1.0], [2.0]]}
    assert answer(Format.COLUMN, y=[[1.0], [2.0]]) == {"outputs": [[1.0], [2.0]]}
    assert answer(Format.COLUMN, y=1.5) == {"outputs": 1.5}


def test_several_outputs_are_named() -> None:
    assert answer(y=[1, 2], z=[[True], [False]]) == {"predictions": [{"y": 1, "z": [True]}, {"y": 2, "z": [False]}]}
    assert answer(Format.COLUMN, y=[1, 2], z=3) == {"outputs": {"y": [1, 2], "z": 3}}


def test_rows_need_one_batch_size() -> None:
    for outputs, stem in (
        ({"y": 1.0}, "has no shape information"),
        ({"y": [1], "z": [1, 2]}, "inconsistent batch size"),
    ):
        with pytest.raises(ServingError, match=stem):
            answer(**outputs)


def test_strings_are_text_unless_their_name_says_bytes() -> None:
    words = strings([b"a", b"\x00\xff"])
    assert json.loads(encode_predict({"w_bytes": words}, Format.ROW)) == {
        "predictions": [{"b64": "YQ=="}, {"b64": "AP8="}]
    }
    assert json.loads(encode_predict({"w": words[:1]}, Format.ROW)) == {"predictions": ["a"]}


def test_floats_are_written_in_the_fewest_digits() -> None:
    assert encode_predict({"y": np.array([0.1, 2.0], np.float32)}, Format.ROW) == b'{"predictions":[0.1,2.0]}'
    assert b"0.1, NaN" in encode_predict({"y": np.array([0.1, np.nan], np.float32)}, Format.ROW)


def test_not_a_number_and_infinity_are_written_bare() -> None:
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert encode_predict({"y": values}, Format.ROW) == b'{"predictions": [NaN, Infinity, -Infinity]}'
    rows = encode_predict({"y": values, "z": np.zeros(3)}, Format.ROW)
    assert b'{"y": -Infinity, "z": 0.0}' in rows


def test_the_largest_float_is_accepted_as_it_is_written() -> None:
    assert parsed({"instances": [3.4028235e38]}, x=FLOAT)["x"].tolist() == [float(np.finfo(np.float32).max)]


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_floats_survive_the_way_out_and_back(array: Array) -> None:
    text = encode_predict({"y": array}, Format.COLUMN).replace(b"outputs", b"inputs")
    np.testing.assert_array_equal(tensors(parse_predict(text), {"y": FLOAT})["y"], array)


@given(hnp.arrays(np.int64, hnp.array_shapes(min_side=0, max_dims=3, max_side=3)))
def test_integers_survive_the_way_out_and_back(array: Array) -> None:
    body = PredictBody("", Format.COLUMN, json.loads(encode_predict({"y": array}, Format.COLUMN))["outputs"])
    back = tensors(body, {"y": INT64})["y"]
    assert back.tolist() == array.tolist()


@given(st.lists(st.binary(), min_size=1))
def test_bytes_survive_the_way_out_and_back(words: list[bytes]) -> None:
    text = encode_predict({"y_bytes": strings(words)}, Format.ROW).replace(b"predictions", b"instances")
    assert tensors(parse_predict(text), {"y": STRING})["y"].tolist() == words


def taken(value: Any, form: Format, kind: ElementType) -> bool:
    """Whether a value is accepted; anything but an array of the right type or words of refusal is a failure."""
    try:
        array = tensors(PredictBody("", form, value), {"x": kind})["x"]
    except ServingError:
        return False
    assert array.dtype == kind.dtype
    return True


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_any_json_is_either_taken_or_refused_in_words(value: Any) -> None:
    for kind in (FLOAT, DOUBLE, INT32, UINT64, STRING, BOOL):
        as_column = taken(value, Format.COLUMN, kind)
        if isinstance(value, list) and value:
            assert taken(value, Format.ROW, kind) == as_column
