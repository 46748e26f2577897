"""The processes that train one model together, and what they tell each other."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from mtdnn_tf.errors import UserError

Result = TypeVar("Result")

# What a collective operation ends with when the process at its other end is gone.
_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Workers:
    """The workers of a strategy: one, unless it is `MultiWorkerMirroredStrategy`.

    Every worker has to make the same calls of `sum`, and of what is built on it, in the same order:
    each waits for all the others.

    Args:
        strategy: The distribution strategy.

    Attributes:
        count: The number of workers.
        index: Which of them this process is, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            self.count = sum(len(addresses) for addresses in jobs.values())
            chiefs = len(jobs.get("chief", ()))
            self.index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes the run directory."""
        return self.index == 0

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Adds up the workers' arrays, all of one shape and type; every worker gets the sum."""
        if self.count == 1:
            return array
        add = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(add, tf.convert_to_tensor(array), axis=None).numpy()

    def gather(self, number: int) -> list[int]:
        """The number of every worker, in their order."""
        numbers = np.zeros(self.count, np.int64)
        numbers[self.index] = number
        return self.sum(numbers).tolist()

    def wait(self) -> None:
        """Returns when every worker has come here."""
        self.gather(0)

    def chief_first(self, make: Callable[[], Result]) -> Result:
        """Calls `make` on the chief, and then on the others, for which its files are there."""
        if not self.is_chief:
            self.wait()
        result = make()
        if self.is_chief:
            self.wait()
        return result

    def check_same(self, text: str, what: str) -> None:
        """Compares what every worker has.

        Args:
            text: What this worker has.
            what: What it is, in the plural, for the message.

        Raises:
            UserError: It is not the same everywhere.
        """
        digest = hashlib.sha256(text.encode()).digest()
        digests = self.gather(int.from_bytes(digest[:7]))
        different = [str(i) for i, other in enumerate(digests) if other != digests[0]]
        if different:
            raise UserError(f"{what} of worker {', '.join(different)} are not those of the chief")

    def check_same_weights(self, model: keras.Model) -> None:
        """Compares all variables of the workers' models, bit by bit.

        Raises:
            UserError: They differ.
        """
        if self.count > 1:
            digest = hashlib.sha256()
            for variable in model.variables:
                digest.update(variable.numpy().tobytes())
            self.check_same(digest.hexdigest(), "the weights")

    @contextlib.contextmanager
    def loss_of_one_told(self) -> Iterator[None]:
        """Tells in one line that another worker is gone, which TensorFlow finds out in 10 seconds.

        Raises:
            UserError: It is.
        """
        try:
            yield
        except _PEER_ERRORS as error:
            if self.count == 1:
                raise
            raise UserError(
                f"worker {self.index} of {self.count} stops: another worker is gone (its own output "
                "tells why); start all of them again, and the run goes on from its last checkpoint"
            ) from error
