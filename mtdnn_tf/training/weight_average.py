"""The average of the weights that training goes through."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf


class WeightAverage:
    """An exponential moving average of a model's trainable weights (Polyak averaging).

    It is brought up to date between loops of steps, not in every step, which would read and write all
    weights once more.

    Args:
        model: The model; it and this are made in the strategy's scope.
        decay: What is kept of the average in one step, in (0, 1); `1 / (1 - decay)` is about the number
            of steps averaged over. Early steps keep less, as in `tf.train.ExponentialMovingAverage`.

    Attributes:
        variables: Path of a weight to its average.
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self._decay = decay
        self._weights = {v.path: v.value for v in model.trainable_variables}
        self.variables = {
            path: tf.Variable(weight, trainable=False) for path, weight in self._weights.items()
        }

    def start(self) -> None:
        """Begins with the weights as they are."""
        for path, weight in self._weights.items():
            self.variables[path].assign(weight)

    def update(self, step: int, steps: int) -> None:
        """Takes the present weights in.

        Args:
            step: Updates of the run so far.
            steps: How many of them since the last call.
        """
        kept = min(self._decay, (1 + step) / (10 + step)) ** steps
        for path, weight in self._weights.items():
            average = self.variables[path]
            average.assign(average + (weight - average) * (1 - kept))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages for weights until the block ends."""
        trained = {path: tf.identity(weight) for path, weight in self._weights.items()}
        for path, weight in self._weights.items():
            weight.assign(self.variables[path])
        try:
            yield
        finally:
            for path, weight in self._weights.items():
                weight.assign(trained[path])
