"""The machine's own limit: the encoder's matrix products alone, on packed shapes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from benchmarking.workload import Workload

TYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}


class Runner:
    """Multiplies matrices of the shapes that a training step multiplies, forward and backward.

    A step is what a training step of `examples` would need on real tokens only, without attention.

    Args:
        contender: `limit fp32|bf16`.
        workload: The examples, for the number of tokens.
        settings: `config`, `examples`, `threads`.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        if settings["threads"]:
            tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
        dtype = TYPES[contender.split()[1]]
        config = settings["config"]
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self._tokens = round(settings["examples"] * workload.lengths.mean())
        self._examples = settings["examples"]

        def random(*shape: int) -> tf.Tensor:
            return tf.cast(tf.random.normal(shape), dtype)

        # Input width, output width, times in a block.
        shapes = [(hidden, hidden, 4), (hidden, inner, 1), (inner, hidden, 1)]
        self._products = [
            (random(self._tokens, i), random(i, o), random(self._tokens, o), times)
            for i, o, times in shapes
        ]
        self._layers = config["num_layers"]
        self._step: Callable[[], Iterable[tf.Tensor]] = self._multiply
        if tf.config.list_physical_devices("GPU"):
            # One by one from Python they start more slowly than they run; and Grappler would
            # find that many are the same.
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
            self._step = tf.function(lambda: list(self._multiply()), autograph=False)

    def _multiply(self) -> Iterator[tf.Tensor]:
        """The products of a step."""
        for x, weights, gradient, times in self._products:
            for _ in range(times * self._layers):
                yield tf.matmul(x, weights)
                yield tf.matmul(gradient, weights, transpose_b=True)
                yield tf.matmul(x, gradient, transpose_a=True)

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns the numbers of examples and tokens that they stand for."""
        for _ in range(count):
            for product in self._step():
                last = product
        last[0, 0].numpy()  # Waits for an accelerator, which works in order.
        return count * self._examples, count * self._tokens

    def device_peak(self) -> int | None:
        """Not of interest."""
        return None
