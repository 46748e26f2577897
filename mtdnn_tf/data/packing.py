"""Packing: several examples share a row of slots, so that almost no slot is padding.

Items (an example, or all candidates of a query, which must share a row) are taken from the epoch's
order in windows; inside a window they go by best fit, longest first, into sections of rows of a fixed
length; the rows of a window are shuffled and dealt into batches, and in a batch those of long sections
come first. What is packed with what depends on lengths and order alone, so a batch can be built again
at any time.

Where texts are read in several parts (`data.windows`), what is called an example here is such a part,
and those of one text are an item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from mtdnn_tf.data.mixture import EpochOrder
from mtdnn_tf.data.ranges import ranges
from mtdnn_tf.experiment.sections import section_lengths

WINDOW = 4096
FILLED = 0.985  # Rows as full as that may be a few more than without sections.
NEARLY = 64  # A section is full if at most a 64th of it is free.


@dataclass(frozen=True)
class PackedEpoch:
    """The layout of all batches of an epoch.

    Attributes:
        task: [examples] int16, position of the task of each example, in the order of rows.
        index: [examples] int32, position of each example in its task's token store.
        slot: [examples] int32, its first slot in its row.
        row_starts: [batches * rows + 1] int64; row r holds examples `row_starts[r]:row_starts[r+1]`.
        rows: Rows of a global batch.
        batches: [batches] int64; the batch at position b is made of rows
            `batches[b] * rows` to `(batches[b] + 1) * rows`.
    """

    task: np.ndarray
    index: np.ndarray
    slot: np.ndarray
    row_starts: np.ndarray
    rows: int
    batches: np.ndarray

    def __len__(self) -> int:
        return len(self.batches)


@dataclass
class Row:
    """A row, or while a window is being packed a section of one.

    Attributes:
        length: Its slots.
        room: How many more examples it may be given.
        free: Slots at its end that they may take.
        items: Positions of its items in their window.
        slots: The first slot of each.
    """

    length: int
    room: int
    free: int
    items: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


def pack_window(
    lengths: np.ndarray, row_length: int, most: int, sizes: np.ndarray | None = None
) -> list[Row]:
    """Packs items into rows by best fit, longest first.

    Items go into sections (see `section_lengths`), unless this takes more rows and does not fill them.

    Args:
        lengths: [items] lengths, each from 1 to `row_length`.
        row_length: Slots of a row.
        most: Most examples in a row.
        sizes: [items] number of examples of each item, at most `most`; by default 1.

    Returns:
        The rows.
    """
    if sizes is None:
        sizes = np.ones(len(lengths), np.int64)
    by_length = np.argsort(-lengths, kind="stable").tolist()
    items = _Items(by_length, lengths.tolist(), sizes.tolist())
    *shorter, _ = sections = section_lengths(row_length)[::-1]
    packed = _pack(items, sections, most)
    if shorter and lengths.sum() < FILLED * row_length * len(packed):
        packed = min(packed, _pack(items, [row_length], most), key=len)
    return packed


class _Items(NamedTuple):
    """The items of a window.

    Attributes:
        by_length: Their positions, the longest first.
        lengths: The length of each.
        sizes: The number of examples of each.
    """

    by_length: list[int]
    lengths: list[int]
    sizes: list[int]


def _pack(items: _Items, sections: list[int], most: int) -> list[Row]:
    """Packs items into rows of the last of `sections`, which are ascending.

    An item that fits no open section opens the shortest that holds it. Two sections that are full make
    one twice as long; what is in others is packed again, into longer ones.
    """
    packed: list[Row] = []
    left = items.by_length
    for number, shortest in enumerate(sections[:-1]):
        _best_fit(packed, left, items, sections[number:], most)
        full = [row for row in packed if row.length == shortest and row.free <= shortest // NEARLY]
        packed = [row for row in packed if row.length > shortest]
        packed += map(_joined, full[::2], full[1::2])
        done = {position for row in packed for position in row.items}
        left = [position for position in items.by_length if position not in done]
    _best_fit(packed, left, items, sections[-1:], most)
    return packed


def _best_fit(
    packed: list[Row], left: list[int], items: _Items, sections: list[int], most: int
) -> None:
    """Adds the items that are left to rows and to new ones, of the shortest of `sections` that does."""
    row_length = sections[-1]
    with_space: list[list[Row]] = [[] for _ in range(row_length + 1)]
    spaces = 0  # Bit s is set where a row with s free slots is open.

    def open_up(row: Row) -> None:
        nonlocal spaces
        if row.free and row.room:
            with_space[row.free].append(row)
            spaces |= 1 << row.free

    for row in packed:
        open_up(row)
    for position in left:
        length, size = items.lengths[position], items.sizes[position]
        fitting = spaces >> length
        space = length + (fitting & -fitting).bit_length() - 1
        if fitting and with_space[space][-1].room >= size:
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            space = next(s for s in sections if s >= length and most * s >= size * row_length)
            row = Row(length=space, room=most * space // row_length, free=space)
            packed.append(row)
        row.items.append(position)
        row.slots.append(row.length - row.free)
        row.free -= length
        row.room -= size
        open_up(row)


def _joined(first: Row, second: Row) -> Row:
    """Two sections as one twice as long, which takes no more items."""
    return Row(
        length=2 * first.length,
        room=0,
        free=0,
        items=first.items + second.items,
        slots=first.slots + [first.length + slot for slot in second.slots],
    )


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
    """Lays an epoch out in batches; in each, rows with items in long sections come first.

    Args:
        orders: One order of items, or several whose items must not share a batch.
        lengths: For each task the lengths of its examples, [examples] int.
        item_offsets: For each task [items + 1]: item i is examples `offsets[i]:offsets[i + 1]`, which
            go into one row and must fit there; by default every example is an item.
        rows: Rows of a global batch; the last batch of each order is filled up with empty rows.
        row_length: Slots of a row; no example is longer.
        most_in_row: Most examples in a row.
        shuffle_rows: (order, window, rows) to a permutation of the window's rows before they are
            dealt into batches; by default rows stay as packed.
        shuffle_batches: Number of batches to a permutation of them; by default in order.
    """
    if item_offsets is None:
        item_offsets = [np.arange(len(of_task) + 1) for of_task in lengths]
    tasks, indices, slots, counts = [], [], [], []
    for stream, order in enumerate(orders):
        if not len(order):
            continue
        first, size, length = _items(order, lengths, item_offsets)
        packed = []
        for window, start in enumerate(range(0, len(order), WINDOW)):
            here = slice(start, start + WINDOW)
            in_window = pack_window(length[here], row_length, most_in_row, size[here])
            if shuffle_rows is not None:
                in_window = [in_window[r] for r in shuffle_rows(stream, window, len(in_window))]
            packed.append(_flattened(in_window, start))
        item, slot, items = map(np.concatenate, zip(*packed, strict=True))
        section = np.maximum.reduceat(
            _sections(slot, length[item], row_length), np.cumsum(items) - items
        )
        # In a batch rows of long sections come first.
        by_section = np.lexsort((-section, np.arange(len(section)) // rows))
        chosen = ranges((np.cumsum(items) - items)[by_section], items[by_section])
        item, slot, items = item[chosen], slot[chosen], items[by_section]
        sizes = size[item]
        tasks.append(np.repeat(order.task[item], sizes))
        indices.append(ranges(first[item], sizes).astype(np.int32))
        slot = np.repeat(slot, sizes) + _slots_in_item(tasks[-1], indices[-1], sizes, lengths)
        slots.append(slot.astype(np.int32))
        counts.append(np.add.reduceat(sizes, np.cumsum(items) - items))
        counts.append(np.zeros(-len(items) % rows, np.int64))
    row_starts = np.cumsum(np.concatenate([[0], *counts]))
    batches = (len(row_starts) - 1) // rows
    return PackedEpoch(
        task=np.concatenate(tasks) if tasks else np.empty(0, np.int16),
        index=np.concatenate(indices) if tasks else np.empty(0, np.int32),
        slot=np.concatenate(slots) if tasks else np.empty(0, np.int32),
        row_starts=row_starts,
        rows=rows,
        batches=np.arange(batches) if shuffle_batches is None else shuffle_batches(batches),
    )


def _flattened(packed: list[Row], start: int) -> tuple[np.ndarray, ...]:
    """Items and their slots, [items] int64 each; numbers of items of the rows, [rows] int64."""
    items = np.fromiter(chain.from_iterable(row.items for row in packed), np.int64)
    slots = np.fromiter(chain.from_iterable(row.slots for row in packed), np.int64)
    counts = np.array([len(row.items) for row in packed])
    return start + items, slots, counts


def _sections(slot: np.ndarray, length: np.ndarray, row_length: int) -> np.ndarray:
    """The shortest section that each item lies in, [items] int64.

    Args:
        slot: [items], the first slot of each in its row.
        length: [items], how many it has.
        row_length: Slots of a row.
    """
    shortest = np.full(len(slot), row_length)
    for section in section_lengths(row_length):
        shortest[slot // section == (slot + length - 1) // section] = section
    return shortest


def _slots_in_item(
    task: np.ndarray, index: np.ndarray, sizes: np.ndarray, lengths: Sequence[np.ndarray]
) -> np.ndarray | int:
    """How many slots of its item are before each example, [examples] int64."""
    if sizes.max() == 1:
        return 0
    length = np.empty(len(task), np.int64)
    for number, of_task in enumerate(lengths):
        here = task == number
        length[here] = of_task[index[here]]
    before = np.cumsum(length) - length
    return before - np.repeat(before[np.cumsum(sizes) - sizes], sizes)


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
