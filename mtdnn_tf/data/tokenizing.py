"""Texts of a task as tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.sources import Rows
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.experiment.data import limit_of
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Encode, Tokenizer

CHUNK = 16384  # Examples that are encoded at once.


class Tokens(NamedTuple):
    """Some examples: the tokens of all, the number of tokens of each window, and see `Encoded`."""

    token_ids: np.ndarray
    type_ids: np.ndarray
    lengths: np.ndarray
    windows: np.ndarray
    whole_lengths: np.ndarray
    is_cut: np.ndarray


def tokenize_rows(
    task: TaskSpec, rows: Rows, tokenizer: Tokenizer, encode: Encode | None = None
) -> TokenStore:
    """Tokenises rows in memory.

    Args:
        task: The task.
        rows: Its rows.
        tokenizer: The tokenizer.
        encode: Its `encode_in_graph`; by default `encode`.
    """
    encode = encode or tokenizer.encode
    columns = [rows.texts[field] for field in task.fields]
    parts = [
        encode_texts(encode, [column[start : start + CHUNK] for column in columns])
        for start in range(0, max(len(rows), 1), CHUNK)
    ]
    tokens = Tokens(*map(np.concatenate, zip(*parts, strict=True)))
    return TokenStore(
        token_ids=tokens.token_ids,
        type_ids=tokens.type_ids,
        offsets=offsets_of(tokens.lengths),
        labels=rows.labels,
        uids=Uids.of(rows.uids),
        groups=rows.groups,
        whole_lengths=tokens.whole_lengths,
        is_cut=tokens.is_cut,
        windows=tokens.windows,
        skipped=rows.skipped,
        remark=rows.remark,
    )


def tell_cut(name: str, store: TokenStore, tokenizer: Tokenizer) -> None:
    """Warns of texts that are cut; says nothing where none is."""
    cut = store.cut
    if cut.cut:
        logging.warning(
            "%s: %s of %s texts are cut at %s (median length %s, longest %s)",
            name,
            f"{cut.cut:,}",
            f"{len(store):,}",
            limit_of(tokenizer.max_length, tokenizer.windows),
            f"{cut.median_length:,}",
            f"{cut.longest:,}",
        )


def encode_texts(encode: Encode, columns: Sequence[Sequence[str]]) -> Tokens:
    """Encodes the texts of each field of some examples."""
    encoded = encode(*(tf.constant(column, tf.string) for column in columns))
    return Tokens(
        encoded.token_ids.flat_values.numpy(),
        encoded.type_ids.flat_values.numpy(),
        np.diff(encoded.token_ids.row_splits.numpy()),
        encoded.windows.numpy(),
        encoded.whole_lengths.numpy().astype(np.int32),
        encoded.is_cut.numpy(),
    )


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    """Where parts of some sizes, one after another, begin and end: [parts + 1] int64."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
