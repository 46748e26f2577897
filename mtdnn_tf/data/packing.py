"""Packing: several examples share a row of slots, so that almost no slot is padding.

Examples are taken from the epoch's order in windows; inside a window they go by best fit, longest
first, into rows of a fixed length; the rows of a window are shuffled and dealt into batches. What is
packed with what depends on lengths and order alone, so a batch can be built again at any time.
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


def pack_window(lengths: np.ndarray, row_length: int, most: int) -> list[list[int]]:
    """Packs examples into rows by best fit, longest first.

    Args:
        lengths: [examples] lengths, each from 1 to `row_length`.
        row_length: Slots of a row.
        most: Most examples in a row.

    Returns:
        Rows, each the positions of its examples in `lengths`.
    """
    rows: list[list[int]] = []
    with_space: list[list[int]] = [[] for _ in range(row_length + 1)]
    spaces = 0  # Bit s is set where a row with s free slots is open.
    by_length = np.argsort(-lengths, kind="stable").tolist()
    for position, length in zip(by_length, lengths[by_length].tolist(), strict=True):
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            space, row = row_length, len(rows)
            rows.append([])
        rows[row].append(position)
        space -= length
        if space and len(rows[row]) < most:
            with_space[space].append(row)
            spaces |= 1 << space
    return rows


def pack_epoch(
    orders: Sequence[EpochOrder],
    lengths: Sequence[np.ndarray],
    *,
    rows: int,
    row_length: int,
    most_in_row: int,
    shuffle_rows: Callable[[int, int, int], np.ndarray] | None = None,
    shuffle_batches: Callable[[int], np.ndarray] | None = None,
) -> PackedEpoch:
    """Lays an epoch out in batches.

    Args:
        orders: One order, or several whose examples must not share a batch.
        lengths: For each task the lengths of its examples, [examples] int.
        rows: Rows of a global batch; the last batch of each order is filled up with empty rows.
        row_length: Slots of a row; no example is longer.
        most_in_row: Most examples in a row.
        shuffle_rows: (order, window, rows) to a permutation of the window's rows; by default rows
            stay as packed.
        shuffle_batches: Number of batches to a permutation of them; by default in order.
    """
    tasks: list[np.ndarray] = []
    indices: list[np.ndarray] = []
    counts: list[int] = []
    for stream, order in enumerate(orders):
        length = np.empty(len(order), np.int64)
        for task, of_task in enumerate(lengths):
            here = order.task == task
            length[here] = of_task[order.index[here]]
        packed_rows = 0
        for window, start in enumerate(range(0, len(order), WINDOW)):
            packed = pack_window(length[start : start + WINDOW], row_length, most_in_row)
            if shuffle_rows is not None:
                packed = [packed[r] for r in shuffle_rows(stream, window, len(packed))]
            positions = start + np.concatenate([np.asarray(row, np.int64) for row in packed])
            tasks.append(order.task[positions])
            indices.append(order.index[positions])
            counts.extend(len(row) for row in packed)
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
