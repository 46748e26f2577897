"""Tensors as the JSON of the model server's REST API (its api_rest.md and util/json_tensor.cc)."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from mtdnn_tf.serving.status import ServingError

BYTES_SUFFIX = "_bytes"
MOST_AXES = 16  # Of a tensor.
SHOWN = 100  # Characters of a value in an error message.


def read_request(
    body: bytes, inputs_of: Callable[[str], Mapping[str, Any]]
) -> tuple[str, dict[str, np.ndarray], bool]:
    """Reads the body of a `:predict` request.

    Args:
        body: JSON with `instances` (rows) or `inputs` (columns), and maybe `signature_name`.
        inputs_of: Gives the inputs, name to `TensorInfo`, of a signature; "" is the default one.

    Returns:
        Name of the signature (may be empty), its inputs, and whether they came as rows.

    Raises:
        ServingError: INVALID_ARGUMENT; it is not such JSON, or not what the signature takes.
    """
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(tree, dict):
        raise _invalid(f"JSON Value: {_shown(tree)} Is not object")
    signature = tree.get("signature_name", "")
    if not isinstance(signature, str):
        raise _invalid("'signature_name' key must be a string value.")
    infos = inputs_of(signature)
    if ("instances" in tree) == ("inputs" in tree):
        raise _invalid("expecting one of 'inputs' or 'instances' keys to exist, and not both")
    if "instances" in tree:
        columns = _columns_of(tree["instances"], infos)
    else:
        columns = _named(tree["inputs"], infos, "inputs is a plain value/list")
        for name in infos:
            if name not in columns:
                raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    inputs = {
        name: to_array(name, column, infos[name].dtype)
        for name, column in columns.items()
        if name in infos
    }
    return signature, inputs, "instances" in tree


def _columns_of(instances: Any, infos: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Turns rows into columns."""
    if not isinstance(instances, list) or not instances:
        raise _invalid("Expecting 'instances' to be a list/array with at least one value")
    columns: dict[str, list[Any]] = {name: [] for name in infos}
    for number, row in enumerate(instances):
        named = _named(row, infos, "instances is a plain list")
        if set(named) != set(infos):
            raise _invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{_shown(row)} keys must be equal to: {','.join(sorted(infos))}"
            )
        for name, value in named.items():
            columns[name].append(value)
    return columns


def _named(value: Any, infos: Mapping[str, Any], what: str) -> dict[str, Any]:
    """An object as it is; anything else is the value of the only input."""
    if isinstance(value, dict) and not _is_base64(value):
        return value
    if len(infos) > 1:
        raise _invalid(f"{what}, but expecting an object for the inputs {','.join(sorted(infos))}")
    return dict.fromkeys(infos, value)


def to_array(name: str, value: Any, dtype: int) -> np.ndarray:
    """A JSON value as a tensor.

    Args:
        name: Name of the input, for the message.
        value: A number, a string or `{"b64": ...}`, or lists of them, nested evenly.
        dtype: The `DataType` of the tensor.

    Raises:
        ServingError: The lists are uneven, or a value is not of the type.
    """
    element = tf.as_dtype(dtype)
    shape = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if not level:
            break
        if len(shape) > MOST_AXES:
            raise _invalid(f"{name}: lists in lists, more than {MOST_AXES} deep")
        level = level[0]
    flat: list[Any] = []
    _flatten(name, value, shape, 0, element, flat)
    try:
        return np.array(flat, element.as_numpy_dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise _invalid(f"{name}: {error}") from error


def _flatten(
    name: str, value: Any, shape: list[int], level: int, dtype: tf.DType, flat: list[Any]
) -> None:
    if isinstance(value, list):
        if level >= len(shape) or len(value) != shape[level]:
            raise _invalid(
                f"{name}: Encountered list at unexpected size: {len(value)} at level: {level}"
            )
        for inner in value:
            _flatten(name, inner, shape, level + 1, dtype, flat)
        return
    if level != len(shape):
        raise _invalid(f"{name}: JSON Value: {_shown(value)} found at incorrect level: {level + 1}")
    flat.append(_scalar(name, value, dtype))


def _scalar(name: str, value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError as error:  # Half of a surrogate pair.
                raise _invalid(f"{name}: not UTF-8: {_shown(value)}") from error
        if _is_base64(value):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise _invalid(f"{name}: Unable to base64 decode") from error
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif type(value) is int or (type(value) is float and dtype.is_floating):
        return value
    raise _invalid(
        f"{name}: JSON Value: {_shown(value)} Type: {type(value).__name__} is not of expected "
        f"type: {dtype.name}"
    )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "..."
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def write_response(outputs: Mapping[str, np.ndarray], is_rows: bool) -> str:
    """The body of an answer.

    Args:
        outputs: Output name to tensor.
        is_rows: Whether the request came as rows: then the answer does too.

    Raises:
        ServingError: Rows are wanted and the outputs have different sizes.
    """
    columns = {name: _to_json(name, value) for name, value in outputs.items()}
    if not is_rows:
        tree: Any = columns if len(columns) > 1 else next(iter(columns.values()))
        return json.dumps({"outputs": tree}, ensure_ascii=False)
    if len({len(column) for column in columns.values()}) != 1:
        raise _invalid("Tensors have different batch sizes; ask in the columnar format")
    rows: list[Any] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    return json.dumps({"predictions": rows}, ensure_ascii=False)


def _to_json(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        return [_to_json(name, inner) for inner in value]
    if isinstance(value, np.ndarray):
        value = value[()]
    if isinstance(value, bytes):
        if name.endswith(BYTES_SUFFIX):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode(errors="replace")
    if isinstance(value, np.floating):
        return float(str(value))  # The shortest number that is this float32.
    return value.item()
