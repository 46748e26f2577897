"""A task's split as flat arrays of word pieces: NumPy alone."""

import functools
import hashlib
from dataclasses import dataclass, replace

import numpy as np

from mtdnn_tf.data.ranges import ranges


@dataclass(frozen=True)
class TokenStore:
    """The examples of one split of one task.

    Attributes:
        token_ids: [tokens] int32, all examples' word pieces one after another, specials included.
        type_ids: [tokens] int32, 0 in the first text, 1 in the second.
        offsets: [examples + 1] int64; example i is `token_ids[offsets[i]:offsets[i + 1]]`.
        labels: [examples] float32, class ids or scores, not a number where one has none; None where
            the split has none.
        uids: [examples] str.
        groups: [examples] int32, the query of each candidate, ascending; None but for ranking tasks.
        key: Hash of everything the arrays depend on.
        source: Hash of the rows and how they are read, whatever the tokenizer; that of a subset is
            the whole's.
        content: Hash of what the rows were read from, alone.
        skipped: Bad rows that were left out.
        remark: What a user should know of the examples; may be empty.
    """

    token_ids: np.ndarray
    type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None
    uids: np.ndarray
    groups: np.ndarray | None = None
    key: str = ""
    source: str = ""
    content: str = ""
    skipped: int = 0
    remark: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, [examples] int64."""
        return np.diff(self.offsets)

    @functools.cached_property
    def item_offsets(self) -> np.ndarray:
        """Item i, what a mixture draws, is examples `item_offsets[i]:item_offsets[i + 1]`.

        [items + 1] int64. An item is one example, or in a ranking task all candidates of a query.
        """
        if self.groups is None:
            return np.arange(len(self) + 1)
        return np.searchsorted(self.groups, np.arange(self.groups[-1] + 2))

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
        return replace(
            self,
            token_ids=np.concatenate([self.token_ids, unlabelled.token_ids]),
            type_ids=np.concatenate([self.type_ids, unlabelled.type_ids]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + unlabelled.offsets[1:]]),
            labels=np.concatenate([np.asarray(self.labels), no_label]),
            uids=np.concatenate([self.uids, unlabelled.uids]),
            key=hashlib.sha256(f"{self.key}+{unlabelled.key}".encode()).hexdigest(),
            skipped=self.skipped + unlabelled.skipped,
        )

    def subset(self, items: np.ndarray) -> "TokenStore":
        """A store of some of the items, in their order, with a key of its own.

        Args:
            items: [n] int, different positions of items, ascending.
        """
        sizes = np.diff(self.item_offsets)[items]
        examples = ranges(self.item_offsets[items], sizes)
        lengths = self.lengths[examples]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = ranges(self.offsets[examples], lengths)
        digest = hashlib.sha256(f"{self.key}/{items.tolist()}".encode())
        return replace(
            self,
            token_ids=self.token_ids[tokens],
            type_ids=self.type_ids[tokens],
            offsets=offsets,
            labels=None if self.labels is None else self.labels[examples],
            uids=self.uids[examples],
            groups=None if self.groups is None else np.repeat(np.arange(len(items)), sizes),
            key=digest.hexdigest(),
        )
