"""Packing: several examples share a row of slots, so that almost no slot is padding.

Items (an example, or all candidates of a query, which must share a row) are taken from the epoch's
order in windows; inside a window they go by best fit, longest first, into rows of a fixed length; the
rows of a window are shuffled and dealt into batches. What is packed with what depends on lengths and
order alone, so a batch can be built again at any time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.data.mixture import EpochOrder

WINDOW = 4096


@dataclass(frozen=True)
class PackedEpoch:
    """The layout of all batches of an epoch.

    Attributes:
        task: [examples] int16, position of the task of each example, in the order of rows.
        index: [examples] int32, position of each example in its task's token store.
        row_starts: [batches * rows + 1] int64; row r holds examples `row_starts[r]:row_starts[r+1]`.
        rows: Rows of a global batch.
        batches: [batches] int64; the batch at position b is made of rows
            `batches[b] * rows` to `(batches[b] + 1) * rows`.
    """

    task: np.ndarray
    index: np.ndarray
    row_starts: np.ndarray
    rows: int
    batches: np.ndarray

    def __len__(self) -> int:
        return len(self.batches)


def pack_window(
    lengths: np.ndarray, row_length: int, most: int, sizes: np.ndarray | None = None
) -> list[list[int]]:
    """Packs items into rows by best fit, longest first.

    Args:
        lengths: [items] lengths, each from 1 to `row_length`.
        row_length: Slots of a row.
        most: Most examples in a row.
        sizes: [items] number of examples of each item, at most `most`; by default 1.

    Returns:
        Rows, each the positions of its items in `lengths`.
    """
    if sizes is None:
        sizes = np.ones(len(lengths), np.int64)
    rows: list[list[int]] = []
    rooms: list[int] = []  # How many more examples each row may hold.
    with_space: list[list[int]] = [[] for _ in range(row_length + 1)]
    spaces = 0  # Bit s is set where a row with s free slots is open.
    by_length = np.argsort(-lengths, kind="stable").tolist()
    for position, length, size in zip(
        by_length, lengths[by_length].tolist(), sizes[by_length].tolist(), strict=True
    ):
        fitting = spaces >> length
        space = length + (fitting & -fitting).bit_length() - 1
        if fitting and rooms[with_space[space][-1]] >= size:
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            space, row = row_length, len(rows)
            rows.append([])
            rooms.append(most)
        rows[row].append(position)
        space -= length
        rooms[row] -= size
        if space and rooms[row]:
            with_space[space].append(row)
            spaces |= 1 << space
    return rows


def pack_epoch(
    orders: Sequence[EpochOrder],
    lengths: Sequence[np.ndarray],
    *,
    item_offsets: Sequence[np.ndarray] | None = None,
    rows: int,
    row_length: int,
    most_in_row: int,
    shuffle_rows: Callable[[int, int, int], np.ndarray] | None = None,
    shuffle_batches: Callable[[int], np.ndarray] | None = None,
) -> PackedEpoch:
    """Lays an epoch out in batches.

    Args:
        orders: One order of items, or several whose items must not share a batch.
        lengths: For each task the lengths of its examples, [examples] int.
        item_offsets: For each task [items + 1]: item i is examples `offsets[i]:offsets[i + 1]`, which
            go into one row and must fit there; by default every example is an item.
        rows: Rows of a global batch; the last batch of each order is filled up with empty rows.
        row_length: Slots of a row; no example is longer.
        most_in_row: Most examples in a row.
        shuffle_rows: (order, window, rows) to a permutation of the window's rows; by default rows
            stay as packed.
        shuffle_batches: Number of batches to a permutation of them; by default in order.
    """
    if item_offsets is None:
        item_offsets = [np.arange(len(of_task) + 1) for of_task in lengths]
    tasks: list[np.ndarray] = []
    indices: list[np.ndarray] = []
    counts: list[int] = []
    for stream, order in enumerate(orders):
        first, size, length = _items(order, lengths, item_offsets)
        packed_rows = 0
        for window, start in enumerate(range(0, len(order), WINDOW)):
            here = slice(start, start + WINDOW)
            packed = pack_window(length[here], row_length, most_in_row, size[here])
            if shuffle_rows is not None:
                packed = [packed[r] for r in shuffle_rows(stream, window, len(packed))]
            positions = start + np.concatenate([np.asarray(row, np.int64) for row in packed])
            sizes = size[positions]
            tasks.append(np.repeat(order.task[positions], sizes))
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            indices.append((np.repeat(first[positions], sizes) + within).astype(np.int32))
            row_items = np.cumsum([0, *map(len, packed)])[:-1]
            counts.extend(np.add.reduceat(sizes, row_items).tolist())
            packed_rows += len(packed)
        counts.extend([0] * (-packed_rows % rows))
    row_starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=row_starts[1:])
    batches = len(counts) // rows
    return PackedEpoch(
        task=np.concatenate(tasks) if tasks else np.empty(0, np.int16),
        index=np.concatenate(indices) if indices else np.empty(0, np.int32),
        row_starts=row_starts,
        rows=rows,
        batches=np.arange(batches) if shuffle_batches is None else shuffle_batches(batches),
    )


def _items(
    order: EpochOrder, lengths: Sequence[np.ndarray], item_offsets: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First example, number of examples and number of tokens of each item, [items] int64 each."""
    first, size, length = (np.empty(len(order), np.int64) for _ in range(3))
    for task, (of_task, offsets) in enumerate(zip(lengths, item_offsets, strict=True)):
        here = order.task == task
        tokens = np.concatenate([[0], np.cumsum(of_task)])[offsets]
        first[here] = offsets[order.index[here]]
        size[here] = np.diff(offsets)[order.index[here]]
        length[here] = np.diff(tokens)[order.index[here]]
    return first, size, length
