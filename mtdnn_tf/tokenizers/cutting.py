"""What is kept of texts that are longer than the encoder reads: a part, or several windows."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from mtdnn_tf.tokenizers import Truncation


class Kept(NamedTuple):
    """What is kept of some examples.

    Attributes:
        texts: The pieces of an example's one or two texts, [windows, (pieces)] int32 each; the
            windows of an example come one after another.
        windows: [n] int64, how many windows each example is read as.
        is_cut: [n] bool, whether anything is left out.
    """

    texts: list[tf.RaggedTensor]
    windows: tf.Tensor
    is_cut: tf.Tensor


def keep(
    texts: Sequence[tf.RaggedTensor],
    budget: int | tf.Tensor,
    truncation: Truncation,
    most_windows: int = 1,
) -> Kept:
    """Cuts examples to windows of a budget of pieces.

    How many pieces of each text of a pair a window has is what `longest_first` says. With several
    windows the longer text (the second where both are equal) goes on in the next ones, each with the
    same pieces of the other text, which is whole where it leaves a quarter of the budget. There are as
    many windows as it takes, spread evenly over the longer text, so that neighbours share a quarter of
    their pieces of it at least.

    Of a text that does not fit so many windows, `longest_first` keeps the beginning, `head_tail` a
    quarter (rounded down) of what is kept from the beginning and the rest from the end.

    Args:
        texts: The pieces of the one or two texts of an example, [n, (pieces)] int32 each.
        budget: How many pieces a window may have; one number, or [n].
        truncation: Which pieces.
        most_windows: Most windows of an example.
    """
    lengths = [text.row_lengths() for text in texts]
    goes_on, shares = [True], [tf.minimum(lengths[0], budget)]
    if len(texts) == 2:
        length_a, length_b = lengths
        goes_on = [length_a > length_b, length_a <= length_b]
        share_of_pair = longest_first if most_windows == 1 else _shorter_whole
        shares = list(share_of_pair(length_a, length_b, budget))
    steps = [share - share // 4 for share in shares]  # From one window to the next, at most.
    room = [
        share + (most_windows - 1) * tf.where(of_text, step, 0)
        for share, of_text, step in zip(shares, goes_on, steps, strict=True)
    ]
    sizes = [tf.minimum(length, most) for length, most in zip(lengths, room, strict=True)]
    over = [length > size for length, size in zip(lengths, sizes, strict=True)]
    kept = [_cut(text, size, truncation) for text, size in zip(texts, sizes, strict=True)]
    windows = tf.ones_like(lengths[0])
    if most_windows > 1:
        for size, share, step in zip(sizes, shares, steps, strict=True):
            windows += -((share - size) // tf.maximum(step, 1))
        kept = [_windows(text, share, windows) for text, share in zip(kept, shares, strict=True)]
    return Kept(kept, windows, tf.reduce_any(over, axis=0))


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


def _shorter_whole(
    length_a: tf.Tensor, length_b: tf.Tensor, budget: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`longest_first`, but with the shorter text whole where it leaves a quarter, or one at least."""
    shorter, longer = tf.minimum(length_a, length_b), tf.maximum(length_a, length_b)
    half = tf.minimum(*longest_first(length_a, length_b, budget))
    quarter = tf.maximum(tf.cast(budget, shorter.dtype) // 4, 1)
    shorter = tf.where(shorter <= budget - quarter, shorter, half)
    longer = tf.minimum(longer, budget - shorter)
    is_a = length_a > length_b
    return tf.where(is_a, longer, shorter), tf.where(is_a, shorter, longer)


def _cut(pieces: tf.RaggedTensor, kept: tf.Tensor, truncation: Truncation) -> tf.RaggedTensor:
    """Returns `kept` [n] pieces of each row."""
    starts = pieces.row_starts()
    chosen = tf.ragged.range(starts, starts + kept)
    if truncation == "head_tail":
        left_out = tf.repeat(pieces.row_lengths() - kept, kept)
        in_tail = tf.ragged.range(kept).flat_values >= tf.repeat(kept // 4, kept)
        chosen = chosen.with_flat_values(chosen.flat_values + tf.where(in_tail, left_out, 0))
    return chosen.with_flat_values(tf.gather(pieces.flat_values, chosen.flat_values))


def _windows(pieces: tf.RaggedTensor, share: tf.Tensor, windows: tf.Tensor) -> tf.RaggedTensor:
    """Takes each row `windows` [n] times, `share` [n] pieces each: from the first ones to the last."""
    number = tf.ragged.range(windows).flat_values
    row = tf.repeat(tf.range(pieces.nrows()), windows)
    more = tf.gather(pieces.row_lengths() - share, row)
    first = number * more // tf.gather(tf.maximum(windows - 1, 1), row)
    starts = tf.gather(pieces.row_starts(), row) + first
    chosen = tf.ragged.range(starts, starts + tf.gather(share, row))
    return chosen.with_flat_values(tf.gather(pieces.flat_values, chosen.flat_values))
