"""A model server over gRPC."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from mtdnn_tf.serving.client.transport import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Security,
    Tensors,
    read_file,
)
from mtdnn_tf.serving.status import ServingError

MAX_RETRIED_BYTES = 1 << 30  # gRPC does not send a larger request again.


class GrpcTransport:
    """A gRPC channel.

    Args:
        address: `host:port`.
        timeout: Deadline of a request with its retries, in seconds.
        attempts: How often a request is sent while the server is UNAVAILABLE; 5 at most, which is
            gRPC's own limit.
        security: How the connection is encrypted.
    """

    def __init__(self, address: str, timeout: float, attempts: int, security: Security) -> None:
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
            ("grpc.per_rpc_retry_buffer_size", MAX_RETRIED_BYTES),
        ]
        if security.is_wanted:
            credentials = grpc.ssl_channel_credentials(
                read_file(security.root_certificates),
                read_file(security.client_key),
                read_file(security.client_certificate),
            )
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
