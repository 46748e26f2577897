"""An exported model, loaded and run as the model server does it."""

import ctypes
import gc
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  Registers the ops of the tokenizer.
from google.protobuf.message import DecodeError
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.export.warmup import WARMUP_FILE
from mtdnn_tf.serving.status import ServingError, code_of_number, unknown_output

DEFAULT_SIGNATURE = "serving_default"
# Rows that are run at once. The activations of a row take thousands of bytes for one of its text, and
# no more rows than these are computed faster together.
MOST_ROWS = 128


class Servable:
    """A version of a model in a Session of its own, with the C++ loader's graph.

    May be run by several threads at once.

    Args:
        folder: The folder of the version.

    Attributes:
        signatures: Name to `SignatureDef`.

    Raises:
        UserError: There is no SavedModel, or it cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                loader = tf.compat.v1.saved_model.loader
                meta_graph = loader.load(self._session, ["serve"], str(folder))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self._session.close()
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load the model in {folder}: {reason}") from error
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Answers one request, `MOST_ROWS` rows at a time: every row is answered by itself.

        Args:
            signature: Name of the signature; empty is `serving_default`.
            inputs: Input name to tensor; strings as bytes.
            outputs: Names of the outputs wanted; all where there are none.

        Raises:
            ServingError: With the code of the model server, where there is no such signature, the
                inputs are not the signature's, or the model refuses their values.
        """
        name = signature or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        definition = self.signatures[name]
        _check_inputs(definition, inputs)
        for output in outputs:
            if output not in definition.outputs:
                raise unknown_output(output, definition.outputs)
        wanted = outputs or sorted(definition.outputs)
        feeds = {definition.inputs[key].name: value for key, value in inputs.items()}
        fetches = {output: definition.outputs[output].name for output in wanted}
        try:
            parts = [self._session.run(fetches, part) for part in _parts(feeds)]
        except tf.errors.OpError as error:
            raise ServingError(code_of_number(error.error_code), _reason(error)) from error
        except ValueError as error:  # A tensor whose shape the input cannot have.
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        if len(parts) == 1:
            return parts[0]
        return {output: np.concatenate([part[output] for part in parts]) for output in wanted}

    def warm_up(self, folder: Path) -> None:
        """Runs the requests that lie beside a model, if there are any.

        Raises:
            UserError: The file is broken, or one of them is not answered; the model server then does
                not serve the version.
        """
        path = folder / WARMUP_FILE
        if not path.exists():
            return
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                request = PredictionLog.FromString(record).predict_log.request
                inputs = {name: read_tensor(name, value) for name, value in request.inputs.items()}
                self.run(request.model_spec.signature_name, inputs)
        except (tf.errors.OpError, DecodeError, ServingError) as error:
            reason = _reason(error) if isinstance(error, tf.errors.OpError) else error
            raise UserError(f"cannot warm up with {path}: {reason}") from error

    def close(self) -> None:
        """Frees the model's memory; nothing may be running."""
        self._session.close()
        del self._session
        gc.collect()  # A graph in Python is full of cycles.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc keeps what was freed, hundreds of megabytes.
            libc.malloc_trim(0)


def _parts(feeds: Mapping[str, np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
    """The rows of the inputs, `MOST_ROWS` at a time; what is not as many rows of each is one part."""
    sizes = {len(value) if value.ndim else 0 for value in feeds.values()}
    if len(sizes) != 1 or max(sizes) <= MOST_ROWS:
        yield feeds
        return
    for start in range(0, max(sizes), MOST_ROWS):
        yield {name: value[start : start + MOST_ROWS] for name, value in feeds.items()}


def _reason(error: tf.errors.OpError) -> str:
    """The line of an error in a graph that says what is wrong: the one before the node's."""
    found = re.search(r"^(.+)\n\s*\[\[\{\{node", error.message, re.MULTILINE)
    return found[1] if found else error.message.strip().splitlines()[0]


def read_tensor(name: str, proto: TensorProto) -> np.ndarray:
    """The array of a tensor that a client sent.

    Args:
        name: Name of the input, for the message.
        proto: The tensor.

    Raises:
        ServingError: INVALID_ARGUMENT; it has not as many values as its shape says. (One value may
            stand for others, as in TensorFlow, but not for more than the tensor has bytes.)
    """
    size = math.prod(dim.size for dim in proto.tensor_shape.dim)
    if proto.dtype == tf.string.as_datatype_enum and len(proto.string_val) != size:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name}: expected {size} strings, as the shape says, found {len(proto.string_val)}",
        )
    if size > proto.ByteSize():
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name}: expected {size} values, as the shape says, found {proto.ByteSize()} bytes",
        )
    try:
        return tf.make_ndarray(proto)
    except (KeyError, TypeError, ValueError) as error:  # KeyError: a type that has no values.
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name}: not a tensor of numbers or strings: {error}",
        ) from error


def _check_inputs(definition: object, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises a ServingError unless the inputs have the signature's names and types."""
    wanted = definition.inputs  # type: ignore[attr-defined]
    if set(inputs) != set(wanted):
        extra, missing = sorted(set(inputs) - set(wanted)), sorted(set(wanted) - set(inputs))
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"input size does not match signature: {len(inputs)}!={len(wanted)} "
            f"len({{{','.join(sorted(inputs))}}}) != len({{{','.join(sorted(wanted))}}}). "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
        )
    for name, value in inputs.items():
        expected = tf.as_dtype(wanted[name].dtype)
        found = tf.string if value.dtype.kind in "OSU" else tf.as_dtype(value.dtype)
        if found != expected:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{name}: expected a tensor of {expected.name}, found {found.name}",
            )
