"""A client of the model server."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import numpy as np

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.evaluation.prediction import Prediction, check_examples, check_numbers
from mtdnn_tf.serving.status import ServingError
from mtdnn_tf.tasks.names import MIXED

# The messages come with TensorFlow, which takes seconds to import and is told by `cli.run` what to log:
# they are imported where they are used.
if TYPE_CHECKING:
    from mtdnn_tf.serving.client.transport import Transport

Answer = TypeVar("Answer")
Tensors = dict[str, np.ndarray]
Texts = Sequence[str] | Sequence[tuple[str, str]]
LOADING_PAUSE = 1.0  # Seconds between two looks whether a model is loaded.


class Client:
    """A connection to a model server, which several threads may use at once.

    >>> with Client("localhost:8500", model="glue") as client:  # doctest: +SKIP
    ...     client.predict("rte", [("A dog sleeps.", "An animal sleeps.")])

    Args:
        server: `host:port` for gRPC; `http://host:port` or `https://host:port` for REST.
        model: What the server calls the model; `default` is its own default.
        version: Number of the version; by default the newest, or that of `label`.
        label: Label of the version, such as `stable`.
        timeout: Deadline of a request in seconds; over REST, of each attempt. A model that is still
            loading is waited for as long.
        attempts: How often a request is sent while the server is UNAVAILABLE; other errors are
            never tried again.
        tls: Whether gRPC is encrypted; so it is where a certificate is given. REST is at `https://`.
        root_certificates: PEM file of who signed the server's certificate; by default the system's.
        client_key: PEM file of a private key, for servers that ask for a client's certificate.
        client_certificate: PEM file of its certificate.
        batch_size: Examples of a request at most; more of them are several requests.
        concurrency: Requests that are under way at once.

    Raises:
        UserError: `version` and `label` are both given, a PEM file cannot be read, or certificates
            are given for an address that is not encrypted.
    """

    def __init__(
        self,
        server: str,
        model: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        attempts: int = 4,
        tls: bool = False,
        root_certificates: str | Path | None = None,
        client_key: str | Path | None = None,
        client_certificate: str | Path | None = None,
        batch_size: int = 32,
        concurrency: int = 8,
    ) -> None:
        from tensorflow_serving.apis.model_pb2 import ModelSpec

        from mtdnn_tf.serving.client.grpc_transport import GrpcTransport
        from mtdnn_tf.serving.client.rest_transport import RestTransport
        from mtdnn_tf.serving.client.transport import Security

        if version is not None and label is not None:
            raise UserError("expected a version or a label, found both")
        self.server, self.batch_size, self._timeout = server, batch_size, timeout
        self._spec = ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        elif label is not None:
            self._spec.version_label = label
        files = (root_certificates, client_key, client_certificate)
        security = Security(tls, *(Path(file) if file else None for file in files))
        self._transport: Transport
        if server.startswith(("http://", "https://")):
            self._transport = RestTransport(server, timeout, attempts, security, concurrency)
        else:
            self._transport = GrpcTransport(server, timeout, attempts, security)
        self._fields: dict[str, list[str]] = {}
        self._batches = ThreadPoolExecutor(concurrency)
        self._callers = ThreadPoolExecutor(concurrency)

    def predict(self, task: str, texts: Texts) -> list[Prediction]:
        """Answers a task for sentences, or for pairs of sentences.

        Args:
            task: Name of the task.
            texts: A string an example for a task over one sentence, a pair of strings for a task
                over two, in the order of the task's fields.

        Returns:
            An answer an example; a ranking task's have no rank.

        Raises:
            ServingError: The server does not answer, or refuses the request; says which it is.
            UserError: The texts are not what the task takes.
        """
        check_examples(texts)
        return self.predict_mixed([(task, text) for text in texts])

    def predict_mixed(
        self, requests: Sequence[tuple[str, str | tuple[str, str]]]
    ) -> list[Prediction]:
        """Answers examples of any tasks, each a pair of a task and what `predict` takes."""
        rows = []
        for task, example in requests:
            texts = example if isinstance(example, tuple | list) else (example,)
            fields = self.fields_of(task)
            if len(texts) != len(fields) or not all(isinstance(text, str) for text in texts):
                raise UserError(f"{task} takes {', '.join(fields)}; found {example!r}")
            rows.append((task, *texts, *[""] * (2 - len(texts))))
        columns = {
            name: np.array([row[i].encode(errors="replace") for row in rows], object)
            for i, name in enumerate(("task", "sentence1", "sentence2"))
        }
        return self.predict_columns(MIXED, columns)

    def predict_columns(
        self, signature: str, columns: Mapping[str, np.ndarray]
    ) -> list[Prediction]:
        """Answers what a signature takes, in batches.

        Args:
            signature: A task's name, `<task>_tokens` or `serving_default`.
            columns: Input name to values, all with an example a row; strings as bytes.

        Raises:
            ServingError: The server does not answer, or refuses the request.
            UserError: An answer is not a number; names its row, from 0.
        """
        count = len(next(iter(columns.values())))
        starts = range(0, count, self.batch_size)
        batches = [
            {name: column[start : start + self.batch_size] for name, column in columns.items()}
            for start in starts
        ]
        answered = self._batches.map(lambda batch: self.call(signature, batch), batches)
        answers: list[Prediction] = []
        for outputs in answered:
            rows = range(len(answers), len(answers) + len(next(iter(outputs.values()))))
            for name in {"score", "probabilities"} & set(outputs):
                check_numbers(f"{self.server}, {signature}", rows, outputs[name])
            answers += _answers(outputs)
        return answers

    def predict_async(self, task: str, texts: Texts) -> Future[list[Prediction]]:
        """`predict` in the background; `asyncio.wrap_future` makes what it returns awaitable."""
        return self._callers.submit(self.predict, task, texts)

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> Tensors:
        """Sends one request.

        Args:
            signature: Name of the signature.
            inputs: Input name to tensor; strings as bytes.
            outputs: Names of the outputs that are wanted; all where there are none.

        Returns:
            Output name to tensor.

        Raises:
            ServingError: The server does not answer, or refuses the request.
        """
        spec = deepcopy(self._spec)
        spec.signature_name = signature
        with self._named_errors(f", signature {signature!r}"):
            return self._once_loaded(lambda: self._transport.predict(spec, inputs, outputs))

    def fields_of(self, task: str) -> list[str]:
        """The names of a task's text fields, in alphabetical order; asked for once.

        Raises:
            ServingError: INVALID_ARGUMENT; the model has no such task.
        """
        if task not in self._fields:
            signatures = self.signatures()
            is_task = {name for name in signatures if f"{name}_tokens" in signatures}
            self._fields = {name: signatures[name] for name in is_task}
        if task not in self._fields:
            with self._named_errors():
                raise ServingError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"the model has no task {task!r}{did_you_mean(task, self._fields)}",
                )
        return self._fields[task]

    def signatures(self) -> dict[str, list[str]]:
        """Signature name to the names of its inputs, in alphabetical order."""
        with self._named_errors():
            found = self._once_loaded(lambda: self._transport.signatures(self._spec)).signature_def
        return {name: sorted(definition.inputs) for name, definition in found.items()}

    def status(self) -> dict[int, str]:
        """Version to its state, such as `AVAILABLE`."""
        from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

        with self._named_errors():
            found = self._once_loaded(
                lambda: self._transport.status(self._spec)
            ).model_version_status
        return {status.version: ModelVersionStatus.State.Name(status.state) for status in found}

    def close(self) -> None:
        """Waits for what is under way and gives the connection up."""
        self._callers.shutdown()
        self._batches.shutdown()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _once_loaded(self, ask: Callable[[], Answer]) -> Answer:
        """What `ask` returns; asks again, for `timeout` seconds, while the model is still loading."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                return ask()
            except ServingError as error:
                if not error.is_loading or time.monotonic() > end:
                    raise
            time.sleep(LOADING_PAUSE)

    @contextmanager
    def _named_errors(self, what: str = "") -> Iterator[None]:
        """Says in front of a ServingError's message whom and what was asked."""
        choice = self._spec.WhichOneof("version_choice")
        if choice == "version":
            what = f", version {self._spec.version.value}{what}"
        elif choice:
            what = f", label {self._spec.version_label!r}{what}"
        try:
            yield
        except ServingError as error:
            where = f"{self.server}, model {self._spec.name!r}{what}"
            raise ServingError(error.code, f"{where}: {error.code.name}: {error}") from error


def _answers(outputs: Tensors) -> Iterator[Prediction]:
    """The rows of an answer to a task's signature, or to that of rows of all tasks."""
    for i in range(len(next(iter(outputs.values())))):
        if "label" not in outputs or not outputs["label"][i]:
            yield Prediction(score=float(outputs["score"][i]))
            continue
        names = [name.decode() for name in outputs["labels"][i]]
        chances = map(float, outputs["probabilities"][i])
        yield Prediction(
            label=outputs["label"][i].decode(),
            probabilities={n: p for n, p in zip(names, chances, strict=True) if n},
        )
