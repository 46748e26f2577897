"""JSON requests and answers of the REST API."""

import base64
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from mtdnn_tf.serving.json_tensor import read_request, to_array, write_response
from mtdnn_tf.serving.status import ServingError

TYPES = {"text": tf.string, "ids": tf.int32, "weight": tf.float32, "flag": tf.bool}


def read(tree, **types):
    infos = {name: TensorInfo(dtype=kind.as_datatype_enum) for name, kind in types.items()}
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return read_request(body, lambda signature: infos)


def test_rows_and_columns_are_the_same_request():
    rows = {"instances": [{"text": "a", "ids": [1, 2]}, {"text": "b", "ids": [3, 4]}]}
    columns = {"inputs": {"text": ["a", "b"], "ids": [[1, 2], [3, 4]]}}
    types = {"text": tf.string, "ids": tf.int32}
    (_, of_rows, is_rows), (_, of_columns, is_columns) = read(rows, **types), read(columns, **types)
    assert is_rows
    assert not is_columns
    for found in (of_rows, of_columns):
        assert found["text"].tolist() == [b"a", b"b"]
        assert found["ids"].tolist() == [[1, 2], [3, 4]]
        assert found["ids"].dtype == np.int32


def test_the_name_of_an_only_input_may_be_left_out():
    for tree in (
        {"instances": ["a", "b"]},
        {"instances": [{"text": "a"}, {"text": "b"}]},
        {"inputs": ["a", "b"]},
        {"inputs": {"text": ["a", "b"]}},
        {"instances": [{"b64": base64.b64encode(b).decode()} for b in (b"a", b"b")]},
    ):
        assert read(tree, text=tf.string)[1]["text"].tolist() == [b"a", b"b"]


def test_a_signature_is_asked_for_by_name():
    assert read({"signature_name": "mood", "instances": ["a"]}, text=tf.string)[0] == "mood"
    assert read({"instances": ["a"]}, text=tf.string)[0] == ""


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b"\xff\xfe", "JSON Parse error"),
        (b"[" * 200_000, "JSON Parse error"),
        (b"[]", "Is not object"),
        ({"signature_name": 3, "instances": ["a"]}, "must be a string"),
        ({}, "one of 'inputs' or 'instances'"),
        ({"inputs": ["a"], "instances": ["a"]}, "one of 'inputs' or 'instances'"),
        ({"instances": "a"}, "Expecting 'instances' to be a list"),
        ({"instances": []}, "at least one value"),
        ({"instances": [{"txet": "a"}]}, "keys must be equal to: text"),
        ({"instances": [{"text": "a"}, {"text": ["b"]}]}, "text: Encountered list at unexpected"),
        ({"instances": [["a", "b"], ["c"]]}, "text: Encountered list at unexpected size: 1"),
        ({"instances": [["a"], "b"]}, 'text: JSON Value: "b" found at incorrect level'),
        ({"instances": [1]}, "Type: int is not of expected type: string"),
        ({"instances": [None]}, "Type: NoneType is not of expected type: string"),
        ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
        ({"inputs": {"txet": ["a"]}}, "Missing named input: text"),
        (b'{"instances": ["\\ud83d"]}', "text: not UTF-8"),
    ],
)
def test_what_is_not_a_request_is_told(tree, message):
    with pytest.raises(ServingError) as caught:
        read(tree, text=tf.string)
    assert message in str(caught.value)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("ids", 1.5), ("ids", True), ("ids", "1"), ("ids", 1 << 40), ("weight", "1"),
        ("weight", True), ("flag", 1), ("text", 1.0), ("text", True),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_told(kind, value):
    with pytest.raises(ServingError, match=kind):
        to_array(kind, [value], TYPES[kind].as_datatype_enum)


@pytest.mark.parametrize(
    "tree", [{"instances": [{"text": "a"}]}, {"instances": ["a"]}, {"inputs": ["a"]}]
)
def test_several_inputs_need_names(tree):
    with pytest.raises(ServingError, match="ids,text"):
        read(tree, text=tf.string, ids=tf.int32)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)


@given(
    st.one_of(
        arrays.arrays(np.int32, SHAPES),
        arrays.arrays(np.float32, SHAPES),
        arrays.arrays(np.bool_, SHAPES),
        arrays.arrays(object, SHAPES, elements=st.text().map(str.encode)),
    )
)
def test_what_is_written_is_read_back_to_the_bit(array):
    kind = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    tree = json.loads(write_response({"x": array}, is_rows=False))
    found = to_array("x", tree["outputs"], kind.as_datatype_enum)
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    if len(array):
        rows = json.loads(write_response({"x": array, "y": array}, is_rows=True))["predictions"]
        found = to_array("x", [row["x"] for row in rows], kind.as_datatype_enum)
        np.testing.assert_array_equal(found, array)


def test_numbers_are_as_short_as_they_can_be():
    body = write_response({"x": np.float32([0.2, 1])}, is_rows=True)
    assert body == '{"predictions": [0.2, 1.0]}'


def test_what_is_no_number_is_written_as_the_model_server_does_and_read_back():
    array = np.float32([np.nan, np.inf, -np.inf])
    body = write_response({"x": array}, is_rows=False)
    assert body == '{"outputs": [NaN, Infinity, -Infinity]}'
    found = to_array("x", json.loads(body)["outputs"], tf.float32.as_datatype_enum)
    np.testing.assert_array_equal(found, array)


def test_outputs_named_bytes_are_base64():
    body = write_response({"x_bytes": np.array([b"\xff"], object)}, is_rows=True)
    assert json.loads(body) == {"predictions": [{"b64": "/w=="}]}


def test_lists_in_lists_have_an_end():
    with pytest.raises(ServingError, match="x: lists in lists, more than 16 deep") as caught:
        to_array("x", json.loads("[" * 900 + "1" + "]" * 900), tf.int32.as_datatype_enum)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_rows_need_outputs_of_one_size():
    with pytest.raises(ServingError, match="different batch sizes"):
        write_response({"x": np.zeros(2), "y": np.zeros(3)}, is_rows=True)
