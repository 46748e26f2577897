"""Dropout whose random state belongs to the layer that holds the `SeedGenerator`."""

import keras
from keras import KerasTensor


def dropout(
    inputs: KerasTensor, rate: float, seed: keras.random.SeedGenerator, training: bool | None
) -> KerasTensor:
    """Zeroes entries with probability `rate` and scales the others by `1 / (1 - rate)`.

    A function, not a layer: all the dropouts of an encoder share one generator, so that its random
    state is one variable with a stable path (`encoder/seed_generator/seed_generator_state`).

    Args:
        inputs: Any shape, floating.
        rate: Probability of zeroing an entry, in [0, 1).
        seed: Generator that gives a fresh seed per call.
        training: Nothing is dropped unless true.
    """
    if not training or not rate:
        return inputs
    return keras.random.dropout(inputs, rate, seed=seed)
