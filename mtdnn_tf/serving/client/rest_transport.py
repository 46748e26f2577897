"""A model server over its REST API."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import requests
from google.protobuf.json_format import ParseDict
from requests.adapters import HTTPAdapter
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from urllib3.util import Retry

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.client.transport import FIRST_PAUSE, LONGEST_PAUSE, Security, Tensors
from mtdnn_tf.serving.json_tensor import to_array
from mtdnn_tf.serving.status import ServingError, code_of_http, unknown_output


class RestTransport:
    """HTTP connections, kept open between requests.

    Args:
        address: `http://host:port` or `https://host:port`.
        timeout: Most that a connection, and then an answer, is waited for each time, in seconds.
        attempts: How often a request is sent while the server is not there, or answers 503.
        security: Whose certificates are trusted and shown.
        connections: Most that are kept open.

    Raises:
        UserError: Encryption is wanted and the address begins with `http:`.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        attempts: int,
        security: Security,
        connections: int,
    ) -> None:
        if security.is_wanted and not address.startswith("https://"):
            raise UserError(f"{address}: expected https:// where TLS or certificates are asked for")
        retry = Retry(
            total=attempts - 1,
            read=False,  # What may have been asked once is not asked twice.
            status_forcelist=[503],
            allowed_methods=None,
            backoff_factor=FIRST_PAUSE,
            backoff_max=LONGEST_PAUSE,
            raise_on_status=False,
            respect_retry_after_header=False,  # It would have other answers tried again as well.
        )
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=retry)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        roots = security.root_certificates
        # Given with each request: the session's own gives way to $REQUESTS_CA_BUNDLE.
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "verify": str(roots) if roots else True,
        }
        if security.client_certificate:
            self._options["cert"] = (str(security.client_certificate), str(security.client_key))
        self._address = address.rstrip("/")
        self._definitions: dict[str, SignatureDefMap] = {}

    def predict(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Tensors:
        """See `Transport`."""
        columns = {name: _to_json(value) for name, value in inputs.items()}
        body = {"signature_name": spec.signature_name, "inputs": columns}
        tree = self._ask(spec, ":predict", body)["outputs"]
        infos = self._outputs(spec)
        for name in outputs:
            if name not in infos:
                raise unknown_output(name, infos)
        if not isinstance(tree, dict):  # The name of an only output is left out.
            tree = dict.fromkeys(infos, tree)
        return {
            name: to_array(name, value, infos[name].dtype)
            for name, value in tree.items()
            if not outputs or name in outputs
        }

    def _outputs(self, spec: ModelSpec) -> Mapping[str, Any]:
        """The outputs of a signature, which JSON does not say the types of; asked for once."""
        where = _path(spec)
        known = self._definitions.get(where)
        if known is None or spec.signature_name not in known.signature_def:
            known = self._definitions[where] = self.signatures(spec)
        return known.signature_def[spec.signature_name].outputs

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
        url = f"{self._address}{_path(spec)}{what}"
        method = "GET" if body is None else "POST"
        try:
            response = self._session.request(method, url, json=body, **self._options)
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


def _path(spec: ModelSpec) -> str:
    """Where REST has a version of a model."""
    choice = spec.WhichOneof("version_choice")
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if choice == "version":
        path += f"/versions/{spec.version.value}"
    elif choice == "version_label":
        path += f"/labels/{quote(spec.version_label, safe='')}"
    return path


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _to_json(value.tolist())
    if isinstance(value, list):
        return [_to_json(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value
