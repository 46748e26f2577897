"""The model server's REST API over a `ModelManager`, and a page to try the tasks on."""

import json
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from absl import logging
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.model_pb2 import ModelSpec
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.json_tensor import read_request, write_response
from mtdnn_tf.serving.local.grpc_service import SIGNATURE_DEF, metadata
from mtdnn_tf.serving.local.manager import ModelManager
from mtdnn_tf.serving.local.servable import DEFAULT_SIGNATURE, Servable
from mtdnn_tf.serving.status import HTTP_STATUS, ServingError

VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
# As in model_servers/http_rest_api_util.cc.
PREDICT = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){VERSION}:(?P<verb>classify|regress|predict)", re.IGNORECASE
)
STATUS = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){VERSION}(?P<metadata>/metadata)?", re.IGNORECASE
)
PAGE = Path(__file__).with_name("page.html")
MAX_BODY_BYTES = 64 << 20
IDLE_SECONDS = 10
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


class RestApi:
    """A WSGI application.

    Args:
        manager: The models.
        model: Name of the model that the page asks first.
        cors: Whether pages of other origins may ask.
    """

    def __init__(self, manager: ModelManager, model: str, cors: bool = False) -> None:
        self._manager, self._model, self._cors = manager, model, cors

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Any:
        """Answers a request."""
        request = Request(environ)
        request.max_content_length = MAX_BODY_BYTES
        response = self._respond(request)
        if self._cors:
            response.headers.update(CORS)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD") and request.path == "/":
            if "model" not in request.args:
                return redirect(f"/?model={quote(self._model)}")
            return Response(PAGE.read_bytes(), mimetype="text/html")
        if request.method == "OPTIONS" and self._cors:
            return Response(status=204)
        try:
            return _json(self._answer(request))
        except ServingError as error:
            return _json(json.dumps({"error": str(error)}), HTTP_STATUS.get(error.code, 500))
        except RequestEntityTooLarge:
            _drain(request)
            message = f"a body of more than {MAX_BODY_BYTES >> 20} MiB"
            return _json(json.dumps({"error": message}), 400)
        except HTTPException as error:
            return _json(json.dumps({"error": error.description}), error.code or 500)
        except Exception as error:  # The server lives on, whatever a request has found.
            logging.exception("%s %s", request.method, request.path)
            return _json(json.dumps({"error": f"{type(error).__name__}: {error}"}), 500)

    def _answer(self, request: Request) -> str:
        if request.method == "POST" and (match := PREDICT.fullmatch(request.path)):
            if match["verb"].lower() != "predict":
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED, f"this server has no {match['verb']}"
                )
            return self._predict(_spec(match), request.get_data(cache=False))
        if request.method in ("GET", "HEAD") and (match := STATUS.fullmatch(request.path)):
            if match["metadata"]:
                return self._metadata(_spec(match))
            return json.dumps(_to_dict(self._manager.status(_spec(match))), indent=1)
        code = grpc.StatusCode.NOT_FOUND
        if request.path.lower().startswith("/v1/"):
            code = grpc.StatusCode.INVALID_ARGUMENT
        raise ServingError(code, f"Malformed request: {request.method} {request.path}")

    def _predict(self, spec: ModelSpec, body: bytes) -> str:
        with self._manager.using(spec) as (_, servable):
            signature, inputs, is_rows = read_request(body, lambda name: _inputs_of(servable, name))
            return write_response(servable.run(signature, inputs), is_rows)

    def _metadata(self, spec: ModelSpec) -> str:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        found = metadata(self._manager, request)
        signatures = SignatureDefMap()
        found.metadata[SIGNATURE_DEF].Unpack(signatures)
        return json.dumps(
            {
                "model_spec": _to_dict(found.model_spec),
                "metadata": {SIGNATURE_DEF: _to_dict(signatures)},
            },
            indent=1,
        )


def _inputs_of(servable: Servable, signature: str) -> Mapping[str, Any]:
    name = signature or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f'Serving signature name: "{name}" not found in signature def',
        )
    return servable.signatures[name].inputs


def _spec(match: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=match["model"])
    if match["version"]:
        try:
            spec.version.value = int(match["version"])
        except ValueError as error:  # Not an int64.
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Failed to convert version: {match['version']} to numeric.",
            ) from error
    elif match["label"]:
        spec.version_label = match["label"]
    return spec


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(body: str, status: int = 200) -> Response:
    return Response(body + "\n", status, mimetype="application/json")


def _drain(request: Request) -> None:
    """Reads what is left of a body: a client that is still sending does not look for the answer."""
    left = request.content_length or 0
    stream = request.environ["wsgi.input"]
    while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
        left -= len(chunk)


class _QuietHandler(WSGIRequestHandler):
    """Does not log every request."""

    timeout = IDLE_SECONDS  # Python's name for how long a connection may keep a thread waiting.

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Logs nothing."""


class _Server(ThreadedWSGIServer):
    daemon_threads = False  # `server_close` waits for the requests that are under way.


def build_rest_server(app: RestApi, host: str, port: int) -> ThreadedWSGIServer:
    """An HTTP server with a thread for each request, which listens but does not answer yet.

    Args:
        app: What answers.
        host: The address to listen at.
        port: The port; 0 takes a free one, which is then the server's `port`.

    Raises:
        UserError: The port is taken, or the address is not this machine's.
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror}") from error
    with listener:  # The server listens on a copy of it.
        return _Server(host, port, app, _QuietHandler, fd=listener.fileno())
