"""Batches for `BertEncoder` made in numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def padded_inputs(
    token_ids: ArrayLike,
    type_ids: ArrayLike | None = None,
    pad_id: int = 0,
    mask: ArrayLike | None = None,
) -> dict[str, np.ndarray]:
    """One example a row, as the packed form of `BertEncoder`.

    Args:
        token_ids: `[rows, length]` ids, each row beginning with `[CLS]` and padded at its end.
        type_ids: `[rows, length]` segment ids; 0 by default.
        pad_id: The id of padding, where `mask` is not given.
        mask: `[rows, length]`, 1 for real tokens and 0 for padding.

    Returns:
        `token_ids`, `type_ids`, `position_ids`, `example_ids` `[rows, length] int32` and
        `first_slot` `[rows] int32`.
    """
    tokens = np.asarray(token_ids, np.int32)
    rows, length = tokens.shape
    real = tokens != pad_id if mask is None else np.asarray(mask) != 0
    return {
        "token_ids": tokens,
        "type_ids": np.zeros_like(tokens) if type_ids is None else np.asarray(type_ids, np.int32),
        "position_ids": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "example_ids": real.astype(np.int32),
        "first_slot": np.arange(rows, dtype=np.int32) * length,
    }


def ragged_inputs(
    token_ids: Sequence[ArrayLike], type_ids: Sequence[ArrayLike] | None = None
) -> dict[str, np.ndarray]:
    """Examples of different lengths without padding, as the ragged form of `BertEncoder`.

    Args:
        token_ids: Ids of each example, `[CLS]` first; one token at least.
        type_ids: Segment ids of each example; 0 by default.

    Returns:
        `token_ids`, `type_ids`, `position_ids`, `row_ids` `[tokens] int32`, `grid`
        `[examples, longest] int32` and `first_slot` `[examples] int32`.
    """
    tokens = [np.asarray(ids, np.int32) for ids in token_ids]
    if type_ids is None:
        type_ids = [np.zeros_like(ids) for ids in tokens]
    types = [np.asarray(ids, np.int32) for ids in type_ids]
    lengths = np.array([len(ids) for ids in tokens], np.int32)
    if not len(lengths) or lengths.min() < 1 or [len(ids) for ids in types] != lengths.tolist():
        raise ValueError("each example needs at least one token and as many type ids as tokens")
    first_slot = np.cumsum(lengths, dtype=np.int32) - lengths
    row_ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    position = np.arange(lengths.max(), dtype=np.int32)
    return {
        "token_ids": np.concatenate(tokens),
        "type_ids": np.concatenate(types),
        "position_ids": np.arange(lengths.sum(), dtype=np.int32) - first_slot[row_ids],
        "row_ids": row_ids,
        "grid": np.where(position < lengths[:, None], first_slot[:, None] + position, -1),
        "first_slot": first_slot,
    }
