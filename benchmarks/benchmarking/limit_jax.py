"""The machine's own limit as JAX reaches it: the encoder's matrix products alone, on packed shapes."""

from typing import Any

import jax
from jax import numpy as jnp

from benchmarking.workload import Workload

TYPES = {"fp32": jnp.float32, "bf16": jnp.bfloat16}


class Runner:
    """Multiplies matrices of the shapes that a training step multiplies; see `benchmarking.limit`.

    Args:
        contender: `limit fp32|bf16`.
        workload: The examples, for the number of tokens.
        settings: `config`, `examples`.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        dtype = TYPES[contender.split()[1]]
        config = settings["config"]
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self._examples = settings["examples"]
        self._tokens = round(self._examples * workload.lengths.mean())

        def random(*shape: int) -> jax.Array:
            return jax.random.normal(jax.random.key(0), shape, dtype)

        # Input width, output width, times in a block.
        shapes = [(hidden, hidden, 4), (hidden, inner, 1), (inner, hidden, 1)]
        self._products = [
            (random(self._tokens, i), random(i, o), random(self._tokens, o), times)
            for i, o, times in shapes
        ]
        self._layers = config["num_layers"]
        self._multiply = jax.jit(lambda x, w, g: (x @ w, g @ w.T, x.T @ g))

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns the numbers of examples and tokens that they stand for."""
        for _ in range(count):
            for x, weights, gradient, times in self._products:
                for _ in range(times * self._layers):
                    last = self._multiply(x, weights, gradient)
        jax.block_until_ready(last)
        return count * self._examples, count * self._tokens

    def device_peak(self) -> int | None:
        """Not of interest."""
        return None
