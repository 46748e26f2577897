"""How a client's requests reach a model server: gRPC or REST."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import requests
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from requests.adapters import HTTPAdapter
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from urllib3.util import Retry

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.status import ServingError, code_of_http

Tensors = dict[str, np.ndarray]
FIRST_PAUSE = 0.1  # Seconds before the first retry; each next one waits twice as long.
LONGEST_PAUSE = 2.0


class Transport(Protocol):
    """Asks a model server; every method raises `ServingError` where it gets no answer."""

    def predict(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Tensors:
        """Runs a signature; strings are bytes."""

    def signatures(self, spec: ModelSpec) -> SignatureDefMap:
        """The signatures of a version."""

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The states of a model's versions."""

    def close(self) -> None:
        """Gives the connection up."""


class GrpcTransport:
    """A gRPC channel.

    Args:
        address: `host:port`.
        timeout: Deadline of a request with its retries, in seconds.
        attempts: How often a request is sent while the server is UNAVAILABLE; 5 at most, which is
            gRPC's own limit.
        tls: Whether the connection is encrypted.
        root_certificates: PEM file of who signed the server's certificate; the system's without one.

    Raises:
        UserError: The PEM file cannot be read.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        attempts: int,
        tls: bool = False,
        root_certificates: Path | None = None,
    ) -> None:
        retry = {
            "maxAttempts": attempts,
            "initialBackoff": f"{FIRST_PAUSE}s",
            "maxBackoff": f"{LONGEST_PAUSE}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        methods = [{"name": [{}], **({"retryPolicy": retry} if attempts > 1 else {})}]
        options = [
            ("grpc.service_config", json.dumps({"methodConfig": methods})),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if tls or root_certificates:
            roots = _read(root_certificates) if root_certificates else None
            credentials = grpc.ssl_channel_credentials(roots)
            self._channel = grpc.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._timeout = timeout
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Tensors:
        """See `Transport`."""
        request = PredictRequest(model_spec=spec, output_filter=outputs)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self._call(self._predictions.Predict, request)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def signatures(self, spec: ModelSpec) -> SignatureDefMap:
        """See `Transport`."""
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._call(self._predictions.GetModelMetadata, request)
        found = SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return found

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """See `Transport`."""
        return self._call(self._models.GetModelStatus, GetModelStatusRequest(model_spec=spec))

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()

    def _call(self, method: grpc.UnaryUnaryMultiCallable, request: Message) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ServingError(error.code(), error.details() or error.code().name) from error


class RestTransport:
    """HTTP connections, kept open between requests.

    Args:
        address: `http://host:port` or `https://host:port`.
        timeout: Most that a connection, and then an answer, is waited for each time, in seconds.
        attempts: How often a request is sent while the server is not there, or answers 503.
        root_certificates: PEM file of who signed the server's certificate; the system's without one.
        connections: Most that are kept open.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        attempts: int,
        root_certificates: Path | None = None,
        connections: int = 8,
    ) -> None:
        retry = Retry(
            total=attempts - 1,
            read=False,  # What may have been asked once is not asked twice.
            status_forcelist=[503],
            allowed_methods=None,
            backoff_factor=FIRST_PAUSE,
            backoff_max=LONGEST_PAUSE,
            raise_on_status=False,
        )
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=retry)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        if root_certificates:
            _read(root_certificates)
            self._session.verify = str(root_certificates)
        self._address, self._timeout = address.rstrip("/"), timeout

    def predict(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Tensors:
        """See `Transport`."""
        columns = {name: _to_json(value) for name, value in inputs.items()}
        body = {"signature_name": spec.signature_name, "inputs": columns}
        tree = self._ask(spec, ":predict", body)["outputs"]
        if not isinstance(tree, dict):  # The name of an only output is left out.
            definition = self.signatures(spec).signature_def[spec.signature_name]
            tree = dict.fromkeys(definition.outputs, tree)
        return {n: _to_array(value) for n, value in tree.items() if not outputs or n in outputs}

    def signatures(self, spec: ModelSpec) -> SignatureDefMap:
        """See `Transport`."""
        tree = self._ask(spec, "/metadata")["metadata"]["signature_def"]
        return ParseDict(tree, SignatureDefMap(), ignore_unknown_fields=True)

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """See `Transport`."""
        tree = self._ask(spec, "")
        return ParseDict(tree, GetModelStatusResponse(), ignore_unknown_fields=True)

    def close(self) -> None:
        """See `Transport`."""
        self._session.close()

    def _ask(self, spec: ModelSpec, what: str, body: Any = None) -> dict:
        choice = spec.WhichOneof("version_choice")
        path = f"/v1/models/{spec.name}"
        if choice == "version":
            path += f"/versions/{spec.version.value}"
        elif choice == "version_label":
            path += f"/labels/{spec.version_label}"
        url = f"{self._address}{path}{what}"
        method = "GET" if body is None else "POST"
        try:
            response = self._session.request(method, url, json=body, timeout=self._timeout)
            tree = response.json()
        except requests.Timeout as error:
            raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from error
        except requests.JSONDecodeError as error:
            raise ServingError(
                grpc.StatusCode.UNKNOWN, f"not the REST API of a model server: {url}"
            ) from error
        except requests.ConnectionError as error:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "no server answers there") from error
        except requests.RequestException as error:
            raise ServingError(grpc.StatusCode.UNKNOWN, str(error)) from error
        if not response.ok:
            raise ServingError(code_of_http(response.status_code), tree.get("error", str(tree)))
        return tree


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _to_json(value: np.ndarray) -> list:
    if value.dtype.kind == "O":
        return [item.decode() for item in value.tolist()]
    return value.tolist()


def _to_array(value: list) -> np.ndarray:
    array = np.array(value)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
