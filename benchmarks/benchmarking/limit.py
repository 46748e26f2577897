"""The machine's own limit: the encoder's matrix products alone, on packed shapes."""

from typing import Any

import tensorflow as tf

from benchmarking.workload import Workload

TYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}


class Runner:
    """Multiplies matrices of the shapes that a training step multiplies, forward and backward.

    A step is what a training step of `examples` would need on real tokens only, without attention and
    with a whole last layer.

    Args:
        contender: `limit fp32|bf16`.
        workload: The examples, for the number of tokens.
        settings: `config`, `examples`, `threads`.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        if settings["threads"]:
            tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
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

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns the numbers of examples and tokens that they stand for."""
        for _ in range(count):
            last = self._step()
        last.numpy()  # Waits for an accelerator, which works in order.
        return count * self._examples, count * self._tokens

    @tf.function(autograph=False)
    def _step(self) -> tf.Tensor:
        """One product after another; what would merge those that are equal is off."""
        last = tf.zeros([])
        for x, weights, gradient, times in self._products:
            for _ in range(times * self._layers):
                for a, b, transposed in (
                    (x, weights, {}),
                    (gradient, weights, {"transpose_b": True}),
                    (x, gradient, {"transpose_a": True}),
                ):
                    with tf.control_dependencies([last]):
                        last = tf.matmul(a, b, **transposed)
        return last[0, 0]

    def device_peak(self) -> int | None:
        """Not of interest."""
        return None
