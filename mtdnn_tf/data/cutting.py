"""What is kept of texts that are longer than the encoder reads."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from mtdnn_tf.config import Truncation


class Kept(NamedTuple):
    """What is kept of some examples.

    Attributes:
        texts: The pieces of an example's one or two texts, [n, (pieces)] int32 each.
        is_cut: [n] bool, whether anything is left out.
    """

    texts: list[tf.RaggedTensor]
    is_cut: tf.Tensor


def keep(texts: Sequence[tf.RaggedTensor], budget: int | tf.Tensor, truncation: Truncation) -> Kept:
    """Cuts examples to a budget of pieces.

    How much of each text of a pair is kept is what `longest_first` says. Of a text that is cut,
    `longest_first` keeps the beginning, `head_tail` a quarter (rounded down) of what is kept from
    the beginning and the rest from the end.

    Args:
        texts: The pieces of the one or two texts of an example, [n, (pieces)] int32 each.
        budget: How many pieces an example may have; one number, or [n].
        truncation: Which pieces.
    """
    lengths = [text.row_lengths() for text in texts]
    if len(texts) == 1:
        shares = [tf.minimum(lengths[0], budget)]
    else:
        shares = list(longest_first(*lengths, budget))
    over = [length > share for length, share in zip(lengths, shares, strict=True)]
    kept = [_cut(text, share, truncation) for text, share in zip(texts, shares, strict=True)]
    return Kept(kept, tf.reduce_any(over, axis=0))


def longest_first(
    length_a: tf.Tensor, length_b: tf.Tensor, budget: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Shares a budget of tokens as `truncation="longest_first"` of `transformers` does.

    Only the longer text is cut, as long as it stays the longer one; beyond that each keeps a half,
    and an odd token goes to the longer text, to the second where both are equal.

    Args:
        length_a: [n] integers.
        length_b: [n] integers.
        budget: What the two may have together; one number, or [n].

    Returns:
        The kept lengths, [n] each.
    """
    odd_token = tf.cast(length_a > length_b, length_a.dtype) * (budget % 2)
    half_a = budget // 2 + odd_token
    kept_a = tf.minimum(length_a, tf.maximum(half_a, budget - length_b))
    return kept_a, tf.minimum(length_b, budget - kept_a)


def _cut(pieces: tf.RaggedTensor, kept: tf.Tensor, truncation: Truncation) -> tf.RaggedTensor:
    """Returns `kept` [n] pieces of each row."""
    starts = pieces.row_starts()
    chosen = tf.ragged.range(starts, starts + kept)
    if truncation == "head_tail":
        left_out = tf.repeat(pieces.row_lengths() - kept, kept)
        in_tail = tf.ragged.range(kept).flat_values >= tf.repeat(kept // 4, kept)
        chosen = chosen.with_flat_values(chosen.flat_values + tf.where(in_tail, left_out, 0))
    return chosen.with_flat_values(tf.gather(pieces.flat_values, chosen.flat_values))
