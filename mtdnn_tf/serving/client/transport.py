"""What a client needs of a connection to a model server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec

from mtdnn_tf.errors import UserError

Tensors = dict[str, np.ndarray]
FIRST_PAUSE = 0.1  # Seconds before the first retry; each next one waits twice as long.
LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class Security:
    """How a connection is encrypted.

    Attributes:
        tls: Whether gRPC is; REST is where the address begins with `https`.
        root_certificates: PEM file of who signed the server's certificate; None takes the system's.
        client_key: PEM file of the client's own private key, for servers that ask for it.
        client_certificate: PEM file of its certificate.

    Raises:
        UserError: A file cannot be read, or there is a key without a certificate.
    """

    tls: bool = False
    root_certificates: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None

    def __post_init__(self) -> None:
        if (self.client_key is None) != (self.client_certificate is None):
            raise UserError("expected both client_key and client_certificate, or none")
        for path in (self.root_certificates, self.client_key, self.client_certificate):
            read_file(path)

    @property
    def is_wanted(self) -> bool:
        """Whether anything asks for encryption."""
        return bool(self.tls or self.root_certificates or self.client_key)


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


def read_file(path: Path | None) -> bytes | None:
    """What a file holds; None for none.

    Raises:
        UserError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
