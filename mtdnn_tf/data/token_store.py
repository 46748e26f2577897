"""A task's split as flat arrays of word pieces: NumPy alone."""

import functools
import hashlib
from dataclasses import dataclass, replace

import numpy as np

from mtdnn_tf.data.ranges import ranges
from mtdnn_tf.data.uids import Uids


@dataclass(frozen=True)
class TokenStore:
    """The examples of one split of one task.

    Attributes:
        token_ids: [tokens] int32, all examples' word pieces one after another, specials included.
        type_ids: [tokens] int32, 0 in the first text, 1 in the second.
        offsets: [windows + 1] int64; window w is `token_ids[offsets[w]:offsets[w + 1]]`.
        labels: [examples] float32, class ids or scores, not a number where one has none; None where
            the split has none.
        uids: [examples] strings.
        groups: [examples] int32, the query of each candidate, ascending; None but for ranking tasks.
        key: Hash of everything the arrays depend on.
        source: Hash of the rows and how they are read, whatever the tokenizer; that of a subset is
            the whole's.
        content: Hash of what the rows were read from, alone.
        whole_lengths: [examples] int32, tokens that each would have if nothing were cut; None where
            it is not known.
        is_cut: [examples] bool; None where it is not known.
        windows: [examples] int64, how many windows each is read as; None where each is one.
        skipped: Bad rows that were left out.
        remark: What a user should know of the examples; may be empty.
    """

    token_ids: np.ndarray
    type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None
    uids: Uids
    groups: np.ndarray | None = None
    key: str = ""
    source: str = ""
    content: str = ""
    whole_lengths: np.ndarray | None = None
    is_cut: np.ndarray | None = None
    windows: np.ndarray | None = None
    skipped: int = 0
    remark: str = ""

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each window, [windows] int64."""
        return np.diff(self.offsets)

    @functools.cached_property
    def window_offsets(self) -> np.ndarray:
        """Example i is read as windows `window_offsets[i]:window_offsets[i + 1]`, [examples + 1]."""
        if self.windows is None:
            return np.arange(len(self) + 1)
        return np.concatenate([[0], np.cumsum(self.windows)])

    @functools.cached_property
    def example_of_window(self) -> np.ndarray:
        """The example that each window is of, [windows] int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.window_offsets))

    @functools.cached_property
    def item_offsets(self) -> np.ndarray:
        """Item i, what a mixture draws, is examples `item_offsets[i]:item_offsets[i + 1]`.

        [items + 1] int64. An item is one example, or in a ranking task all candidates of a query.
        """
        if self.groups is None:
            return np.arange(len(self) + 1)
        return np.searchsorted(self.groups, np.arange(self.groups[-1] + 2))

    @property
    def item_windows(self) -> np.ndarray:
        """Item i is windows `item_windows[i]:item_windows[i + 1]`, [items + 1] int64."""
        return self.window_offsets[self.item_offsets]

    @property
    def cut(self) -> "CutTexts":
        """How many examples are cut, and how long they are before."""
        if self.is_cut is None or self.whole_lengths is None or not len(self):
            return CutTexts(0, 0, 0)
        lengths = self.whole_lengths
        return CutTexts(int(self.is_cut.sum()), int(np.median(lengths)), int(lengths.max()))

    @property
    def first_of_query(self) -> np.ndarray:
        """The position of the first candidate of the same query, of itself in other tasks.

        [examples] int32.
        """
        number = np.arange(len(self)) if self.groups is None else self.groups
        return self.item_offsets[:-1][number].astype(np.int32)

    def joined(self, unlabelled: "TokenStore") -> "TokenStore":
        """A store of these examples and of others without labels after them.

        Args:
            unlabelled: The others; neither has groups.
        """
        no_label = np.full(len(unlabelled), np.nan, np.float32)

        def both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
            return None if one is None or other is None else np.concatenate([one, other])

        return replace(
            self,
            token_ids=np.concatenate([self.token_ids, unlabelled.token_ids]),
            type_ids=np.concatenate([self.type_ids, unlabelled.type_ids]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + unlabelled.offsets[1:]]),
            labels=np.concatenate([np.asarray(self.labels), no_label]),
            uids=self.uids.joined(unlabelled.uids),
            key=hashlib.sha256(f"{self.key}+{unlabelled.key}".encode()).hexdigest(),
            whole_lengths=both(self.whole_lengths, unlabelled.whole_lengths),
            is_cut=both(self.is_cut, unlabelled.is_cut),
            windows=both(self.windows, unlabelled.windows),
            skipped=self.skipped + unlabelled.skipped,
        )

    def subset(self, items: np.ndarray) -> "TokenStore":
        """A store of some of the items, in their order, with a key of its own.

        Args:
            items: [n] int, different positions of items, ascending.
        """
        sizes = np.diff(self.item_offsets)[items]
        examples = ranges(self.item_offsets[items], sizes)
        windows = ranges(self.window_offsets[examples], np.diff(self.window_offsets)[examples])
        lengths = self.lengths[windows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = ranges(self.offsets[windows], lengths)
        of_examples = {
            name: array[examples]
            for name in ("labels", "uids", "whole_lengths", "is_cut", "windows")
            if (array := getattr(self, name)) is not None
        }
        return replace(
            self,
            token_ids=self.token_ids[tokens],
            type_ids=self.type_ids[tokens],
            offsets=offsets,
            groups=None if self.groups is None else np.repeat(np.arange(len(items)), sizes),
            key=subset_key(self.key, items),
            **of_examples,
        )


@dataclass(frozen=True)
class CutTexts:
    """How many examples are cut, and how long they would be in tokens if none were.

    Attributes:
        cut: How many are cut.
        median_length: The median length, rounded down.
        longest: The largest.
    """

    cut: int
    median_length: int
    longest: int


def subset_key(key: str, items: np.ndarray) -> str:
    """The key of a store of some of the items of the store with `key`."""
    return hashlib.sha256(f"{key}/{items.tolist()}".encode()).hexdigest()
