"""The model server's gRPC services, over a `ModelManager`."""

from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from mtdnn_tf.serving.local.manager import ModelManager
from mtdnn_tf.serving.local.servable import DEFAULT_SIGNATURE, read_tensor
from mtdnn_tf.serving.status import ServingError

Response = TypeVar("Response")
MAX_MESSAGE_BYTES = 64 << 20
SIGNATURE_DEF = "signature_def"  # The one field of metadata that there is.


def predict(manager: ModelManager, request: PredictRequest) -> PredictResponse:
    """Answers a PredictRequest.

    Raises:
        ServingError: It cannot be answered.
    """
    inputs = {name: read_tensor(name, tensor) for name, tensor in request.inputs.items()}
    signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
    with manager.using(request.model_spec) as (number, servable):
        outputs = servable.run(signature, inputs, list(request.output_filter))
    response = PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = number
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def metadata(manager: ModelManager, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """The signatures of a version.

    Raises:
        ServingError: There is no such version, or something else than signatures is asked for.
    """
    if not request.metadata_field:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {field} is not supported"
            )
    response = GetModelMetadataResponse()
    with manager.using(request.model_spec) as (number, servable):
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        signatures = SignatureDefMap()
        for name, definition in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def _answer(context: grpc.ServicerContext, function: Callable[[], Response]) -> Response:
    """Runs the function of a request; what goes wrong ends the request with its code."""
    try:
        return function()
    except ServingError as error:
        context.abort(error.code, str(error))
        raise  # `abort` has raised.


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        return _answer(context, lambda: predict(self._manager, request))

    def GetModelMetadata(
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        return _answer(context, lambda: metadata(self._manager, request))


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def GetModelStatus(
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        return _answer(context, lambda: self._manager.status(request.model_spec))


def build_grpc_server(manager: ModelManager, threads: int) -> grpc.Server:
    """A gRPC server with PredictionService and ModelService, without a port yet.

    Args:
        manager: The models.
        threads: Requests that are worked on at once.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # A port that is taken is an error.
    ]
    server = grpc.server(futures.ThreadPoolExecutor(threads), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(manager), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(manager), server)
    return server
