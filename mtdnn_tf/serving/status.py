"""What can go wrong between a client and a model server, as gRPC and HTTP say it."""

from collections.abc import Iterable

import grpc

from mtdnn_tf.errors import UserError

# The model server's table from gRPC codes to HTTP (model_servers/http_server.cc).
HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}

LOADING = "is still loading"  # What our server's message ends with, beside UNAVAILABLE.


class ServingError(UserError):
    """A request that was not answered.

    Args:
        code: Why, as gRPC names it.
        message: What, where, and what was expected.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_loading(self) -> bool:
        """Whether the server is there, and the model will be."""
        return self.code == grpc.StatusCode.UNAVAILABLE and str(self).endswith(LOADING)


def code_of_number(number: int) -> grpc.StatusCode:
    """The code of a number, which gRPC and TensorFlow share."""
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def code_of_http(status: int) -> grpc.StatusCode:
    """The code that an HTTP status stands for; of several the first in the table."""
    for code, http_status in HTTP_STATUS.items():
        if http_status == status:
            return code
    return grpc.StatusCode.UNKNOWN


def unknown_output(name: str, known: Iterable[str]) -> ServingError:
    """What the model server says where a signature has no such output."""
    return ServingError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
        f"{{{','.join(sorted(known))}}}.",
    )
