"""Deadlines, retries and encryption of the client, against servers made to fail."""

import json
import subprocess
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from werkzeug.serving import ThreadedWSGIServer
from werkzeug.wrappers import Request, Response

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.client import Client
from mtdnn_tf.serving.client import client as client_module
from mtdnn_tf.serving.local.rest_api import build_rest_server
from mtdnn_tf.serving.status import HTTP_STATUS, ServingError, code_of_http, code_of_number


class Script:
    """What a server does with one request after the other: a code to fail with, or None."""

    def __init__(self, *codes, seconds=0.0, message="as the script says", score=0.5):
        self.codes, self.seconds, self.asked = list(codes), seconds, 0
        self.message, self.outputs = message, {"score": np.float32([score])}

    def next(self):
        self.asked += 1
        time.sleep(self.seconds)
        return self.codes.pop(0) if self.codes else None


class FailingService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, script):
        self.script = script

    def Predict(self, request, context):
        code = self.script.next()
        if code is not None:
            context.abort(code, self.script.message)
        response = PredictResponse()
        for name, value in self.script.outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


def grpc_server(script, credentials=None):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        FailingService(script), server
    )
    if credentials:
        port = server.add_secure_port("localhost:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture(params=["grpc", "rest"])
def serve(request):
    """A function that starts a server with a script and returns its address."""
    stops = []

    def start(script):
        if request.param == "grpc":
            server, port = grpc_server(script)
            stops.append(lambda: server.stop(None))
            return f"127.0.0.1:{port}"

        @Request.application
        def app(request):
            if request.method == "GET":
                outputs = {name: {"dtype": "DT_FLOAT"} for name in script.outputs}
                tree = {"signature_def": {"near": {"outputs": outputs}}}
                return Response(json.dumps({"metadata": {"signature_def": tree}}))
            code = script.next()
            if code is not None:
                body = json.dumps({"error": script.message})
                answer = Response(body, HTTP_STATUS.get(code, 500))
                answer.headers["Retry-After"] = "1"
                return answer
            columns = {name: value.tolist() for name, value in script.outputs.items()}
            return Response(json.dumps({"outputs": columns}))

        server = build_rest_server(app, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stops.append(server.shutdown)
        return f"http://127.0.0.1:{server.port}"

    yield start
    for stop in stops:
        stop()


def ask(address, text=b"a", **kwargs):
    with Client(address, **kwargs) as client:
        return client.call("near", {"a": np.array([text], object)}, ["score"])


UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL


def test_a_server_that_is_unavailable_for_a_while_is_asked_again(serve):
    script = Script(UNAVAILABLE, UNAVAILABLE)
    assert ask(serve(script))["score"].tolist() == [0.5]
    assert script.asked == 3


def test_a_large_request_is_sent_again_as_well(serve):
    script = Script(UNAVAILABLE, UNAVAILABLE)
    assert ask(serve(script), text=b"a" * 1_000_000)["score"].tolist() == [0.5]
    assert script.asked == 3


def test_it_is_not_asked_for_ever(serve):
    script = Script(*[UNAVAILABLE] * 20)
    with pytest.raises(ServingError, match="UNAVAILABLE: as the script says"):
        ask(serve(script), attempts=3)
    assert script.asked == 3


def test_a_model_that_is_loading_is_waited_for(serve, monkeypatch):
    monkeypatch.setattr(client_module, "LOADING_PAUSE", 0.01)
    script = Script(*[UNAVAILABLE] * 9, message="model 'default' is still loading")
    assert ask(serve(script), attempts=1)["score"].tolist() == [0.5]
    assert script.asked == 10


def test_a_model_that_never_ends_to_load_is_not_waited_for_longer_than_a_request(serve):
    script = Script(*[UNAVAILABLE] * 99, message="model 'default' is still loading")
    start = time.monotonic()
    with pytest.raises(
        ServingError, match="UNAVAILABLE: model 'default' is still loading"
    ) as caught:
        ask(serve(script), attempts=1, timeout=1.0)
    assert 1 < time.monotonic() - start < 5
    assert caught.value.code == UNAVAILABLE


@pytest.mark.parametrize("score", [np.nan, -np.inf])
def test_an_answer_that_is_no_number_names_its_row(score, serve):
    with Client(serve(Script(score=score)), batch_size=1) as client:
        answered = client.call("near", {"a": np.array([b"a"], object)})
        np.testing.assert_array_equal(answered["score"], np.float32([score]))
        with pytest.raises(UserError, match="near: the model's output for row '0' is not a finite"):
            client.predict_columns("near", {"a": np.array([b"a", b"b"], object)})


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c.value[0] and c != UNAVAILABLE])
def test_no_other_error_is_tried_again(code, serve):
    script = Script(code)
    with pytest.raises(ServingError, match="as the script says") as caught:
        ask(serve(script))
    assert script.asked == 1
    same_status = {HTTP_STATUS.get(caught.value.code, 500), HTTP_STATUS.get(code, 500)}
    assert len(same_status) == 1


def test_an_answer_that_comes_too_late_is_not_waited_for(serve):
    script = Script(seconds=2)
    with pytest.raises(ServingError) as caught:
        ask(serve(script), timeout=0.2)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert script.asked == 1


def test_what_is_not_a_model_server_is_told():
    app = Request.application(lambda request: Response("<p>Hello</p>"))
    server = build_rest_server(app, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ServingError, match="not the REST API of a model server"):
            ask(f"http://127.0.0.1:{server.port}")
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of localhost and its key, PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout"
    subprocess.run([*command.split(), key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


def test_an_encrypted_connection_is_made_with_the_authority_alone(certificate):
    key, certificate = certificate
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    server, port = grpc_server(Script(), credentials)
    address = f"localhost:{port}"
    try:
        assert ask(address, root_certificates=certificate)["score"].tolist() == [0.5]
        for other in ({"tls": True}, {}):
            with pytest.raises(ServingError) as caught:
                ask(address, attempts=1, **other)
            assert caught.value.code == UNAVAILABLE
    finally:
        server.stop(None)


def test_a_server_may_ask_for_the_clients_certificate(certificate):
    key, certificate = certificate
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], certificate.read_bytes(), True
    )
    server, port = grpc_server(Script(), credentials)
    address, own = f"localhost:{port}", {"client_key": key, "client_certificate": certificate}
    try:
        found = ask(address, root_certificates=certificate, **own)
        assert found["score"].tolist() == [0.5]
        with pytest.raises(ServingError):
            ask(address, root_certificates=certificate, attempts=1, timeout=5)
    finally:
        server.stop(None)


def test_rest_is_encrypted_with_the_authority_alone(certificate, monkeypatch):
    key, certificate = certificate
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none.pem")  # What is given counts for more.

    @Request.application
    def app(request):
        outputs = {"score": {"dtype": "DT_FLOAT"}}
        tree = {"signature_def": {"near": {"outputs": outputs}}}
        return Response(json.dumps({"metadata": {"signature_def": tree}, "outputs": [0.5]}))

    server = ThreadedWSGIServer("localhost", 0, app, ssl_context=(str(certificate), str(key)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://localhost:{server.port}"
    try:
        assert ask(address, root_certificates=certificate)["score"].tolist() == [0.5]
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(ServingError):
            ask(address, attempts=1)
    finally:
        server.shutdown()


@pytest.mark.parametrize("options", [{"tls": True}, {"root_certificates": True}])
def test_encryption_is_never_left_out_silently(options, certificate):
    if "root_certificates" in options:
        options = {"root_certificates": certificate[1]}
    with pytest.raises(UserError, match=r"http://localhost:1: expected https://"):
        Client("http://localhost:1", **options)


@pytest.mark.parametrize("scheme", ["", "https://"])
def test_a_certificate_that_is_not_there_is_told(scheme):
    with pytest.raises(UserError, match=r"cannot read /none\.pem: No such file"):
        Client(f"{scheme}localhost:1", root_certificates="/none.pem")


def test_codes_are_found_by_their_numbers():
    assert code_of_number(5) == grpc.StatusCode.NOT_FOUND
    assert code_of_http(404) == grpc.StatusCode.NOT_FOUND
    assert code_of_http(400) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of_http(418) == grpc.StatusCode.UNKNOWN
