"""Token stores and batches made by hand."""

from itertools import pairwise

import numpy as np

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.modeling import BertConfig


def candidate_store(sizes, rng, shortest=3, longest=9):
    lengths = rng.integers(shortest, longest, sum(sizes))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.concatenate([np.eye(1, size, dtype=np.float32)[0] for size in sizes])
    return TokenStore(
        token_ids=np.arange(1, offsets[-1] + 1, dtype=np.int32),
        type_ids=np.zeros(offsets[-1], np.int32),
        offsets=offsets,
        labels=labels,
        uids=Uids.of(list(map(str, range(len(lengths))))),
        groups=np.repeat(np.arange(len(sizes)), sizes).astype(np.int32),
    )


def plain_store(count, rng):
    store = candidate_store([1] * count, rng)
    return TokenStore(store.token_ids, store.type_ids, store.offsets, store.labels, store.uids)


TINY = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    intermediate_size=32,
    max_position_embeddings=32,
    initializer_range=0.5,  # Attention must matter for a wrong mask to be seen.
)


def packed(rows, length):
    """Packs lists of examples, given row by row."""
    names = ("token_ids", "type_ids", "position_ids", "example_ids")
    batch = {name: np.zeros((len(rows), length), np.int32) for name in names}
    first = []
    for r, row in enumerate(rows):
        at = 0
        for number, ids in enumerate(row, 1):
            slots = slice(at, at + len(ids))
            batch["token_ids"][r, slots] = ids
            batch["type_ids"][r, slots] = np.arange(len(ids)) > len(ids) // 2
            batch["position_ids"][r, slots] = np.arange(len(ids))
            batch["example_ids"][r, slots] = number
            first.append(r * length + at)
            at += len(ids)
    return batch | {"first_slot": np.array(first, np.int32)}


def words(lengths):
    return [[2, *range(5, 4 + length)] for length in lengths]


def store(lengths, first_id=1):
    """A store of examples whose tokens are all different."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(first_id, first_id + offsets[-1], dtype=np.int32)
    return TokenStore(
        token_ids=ids,
        type_ids=ids % 2,
        offsets=offsets,
        labels=np.arange(len(lengths), dtype=np.float32),
        uids=Uids.of(list(map(str, range(len(lengths))))),
    )


def members(batch):
    real = batch["index"] >= 0
    return list(zip(batch["task"][real].tolist(), batch["index"][real].tolist(), strict=True))


def epochs_of(plan):
    """The examples of each epoch, through the batches themselves."""
    batches = list(plan.batches(0))
    per_step = plan.replicas
    ends = [0, *(plan.epoch_ends * per_step)]
    return [[m for batch in batches[a:b] for m in members(batch)] for a, b in pairwise(ends)]
