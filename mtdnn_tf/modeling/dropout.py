"""Dropout whose random state belongs to the layer that holds the `SeedGenerator`."""

import keras
from keras import KerasTensor, ops

LEVELS = 2**16  # A rate is rounded to a multiple of its inverse.
HASH_LEVELS = 2**32


class DrawnSeed(keras.random.SeedGenerator):
    """A seed that is drawn already, so that what uses it can be computed again with the same mask.

    Args:
        seed: The generator that it is drawn from, now.
    """

    def __init__(self, seed: keras.random.SeedGenerator) -> None:
        self._drawn = seed.next()

    def next(self, ordered: bool = True) -> KerasTensor:
        """The seed, the same at every call."""
        return self._drawn


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
    dropped = _dropped(rate, LEVELS)
    if not training or not dropped:
        return inputs
    # An entry takes 16 random bits: drawing them is most of dropout's time on CPU, and this takes a
    # third off it. It also keeps the rate under each policy: `keras.random.dropout` in bfloat16 drops
    # 0.101 for a rate of 0.1 and scales for 0.1.
    half = (ops.size(inputs) + 1) // 2
    draws = keras.random.randint((half, 1), -(2**31), 2**31 - 1, dtype="int32", seed=seed)
    levels = ops.reshape(ops.view(draws, "int16"), (-1,))[: ops.size(inputs)]
    keep = ops.greater_equal(ops.reshape(levels, ops.shape(inputs)), dropped - LEVELS // 2)
    # A product, not a choice: it is faster on CPU, and so is its gradient.
    return inputs * (ops.cast(keep, inputs.dtype) * (LEVELS / (LEVELS - dropped)))


def draw(rate: float, seed: keras.random.SeedGenerator) -> tuple[KerasTensor, ...]:
    """The seeds that `drop` needs: one, or none where nothing is dropped."""
    return (seed.next(),) if _dropped(rate, HASH_LEVELS) else ()


def drop(inputs: KerasTensor, rate: float, *seeds: KerasTensor) -> KerasTensor:
    """Dropout for functions that XLA compiles, where it costs next to nothing.

    Whether an entry is dropped is a hash of its number and the seed: in the loop over the entries, so
    that no mask is kept for the gradient. Random numbers that XLA draws on CPU take longer than the
    rest of a LayerNorm.

    Args:
        inputs: Any shape, floating.
        rate: Probability of zeroing an entry, in [0, 1).
        *seeds: From `draw`: `[2]`, if any.
    """
    if not seeds:
        return inputs
    first, second = ops.unstack(_mixed(ops.cast(seeds[0], "uint32")))
    number = ops.cast(ops.arange(ops.size(inputs), dtype="int32"), "uint32")
    number = ops.reshape(number, ops.shape(inputs))
    bits = _mixed(ops.bitwise_xor(_mixed(ops.bitwise_xor(number, first)), second))
    dropped = _dropped(rate, HASH_LEVELS)
    keep = ops.greater_equal(bits, ops.convert_to_tensor(dropped, "uint32"))
    return inputs * (ops.cast(keep, inputs.dtype) * (HASH_LEVELS / (HASH_LEVELS - dropped)))


def _mixed(numbers: KerasTensor) -> KerasTensor:
    """A hash of each `uint32`, one to one: `lowbias32` of Chris Wellons' hash-prospector (2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        numbers = ops.bitwise_xor(numbers, ops.bitwise_right_shift(numbers, shift))
        numbers = numbers * ops.convert_to_tensor(factor, "uint32")
    return ops.bitwise_xor(numbers, ops.bitwise_right_shift(numbers, 16))


def _dropped(rate: float, levels: int) -> int:
    """How many of so many levels are dropped."""
    return min(round(rate * levels), levels - 1)
