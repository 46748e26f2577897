"""A task's split as a token store: tokenised once, and kept in the cache."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from mtdnn_tf.data.candidates import Queries
from mtdnn_tf.data.ranges import ranges
from mtdnn_tf.data.sources import FileStates, SplitReader, content_hash, file_states
from mtdnn_tf.data.store_folder import Damaged, StoreWriter, new_folder, read_store, remove_store
from mtdnn_tf.data.token_store import TokenStore, subset_key
from mtdnn_tf.data.tokenizing import CHUNK, Tokens, encode_texts, offsets_of, tell_cut
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks.spec import OnBadRow, TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Encode, Tokenizer

FORMAT = 2  # Part of the key, which runs note: raise it when how text is read changes.
_THREADS = min(4, os.cpu_count() or 1)
_SECONDS_BETWEEN_LINES = 15
# From the number of items of a split to the positions of those that are used, ascending.
Choice = Callable[[int], np.ndarray]


def open_store(
    task: TaskSpec,
    split: str,
    data_dir: Path,
    tokenizer: Tokenizer,
    cache_dir: Path,
    on_bad_row: OnBadRow = "error",
    tfds_dir: Path | None = None,
    choices: Sequence[Choice] = (),
) -> TokenStore:
    """Opens the store of a split, made first if its source, spec or vocabulary is new.

    A store that is damaged is made again. Of a small part of a split no more than the part is
    tokenised, but where the whole is in the cache already.

    Args:
        task: The task.
        split: Name of one of its splits.
        data_dir: The folder that relative paths of the spec start from.
        tokenizer: The tokenizer.
        cache_dir: Where stores are kept.
        on_bad_row: See `SplitReader`.
        tfds_dir: The folder of TensorFlow Datasets.
        choices: Which part of the items is used, each of what the one before it leaves.

    Raises:
        UserError: The source is bad (see `SplitReader`), or the cache cannot be written.
    """

    def states() -> FileStates:
        return file_states(task, split, data_dir)

    before = states()
    content = content_hash(task, split, data_dir, tfds_dir)
    reading = _reading(task, split, on_bad_row)
    key = _hash(reading | {"tokenizer": tokenizer.fingerprint}, content)

    def reader() -> SplitReader:
        return SplitReader(task, split, data_dir, on_bad_row, tfds_dir)

    making = _Making(task, split, tokenizer, cache_dir, reader, states, before)
    store = making.cached(key)
    part = _survey(making, choices, key) if store is None and choices else None
    if part is not None:
        store = making.cached(part.key) or making.make(part.key, part)
    else:
        store = store or making.make(key)
        for choice in choices:
            store = store.subset(choice(len(store.item_offsets) - 1))
    if store.skipped:
        logging.warning("%s/%s: %d bad rows left out", task.name, split, store.skipped)
    if store.remark:
        logging.info("%s/%s: %s", task.name, split, store.remark)
    tell_cut(f"{task.name}/{split}", store, tokenizer)
    return replace(store, source=_hash(reading, content), content=content.hex())


class _Part(NamedTuple):
    """A part of a split: its key, whether each usable row is in it, and what a survey found."""

    key: str
    has_row: np.ndarray
    remarks: list[str]


class _Making(NamedTuple):
    """What a store is made of."""

    task: TaskSpec
    split: str
    tokenizer: Tokenizer
    cache_dir: Path
    reader: Callable[[], SplitReader]
    file_states: Callable[[], FileStates]
    before: FileStates

    def check_unchanged(self) -> None:
        """Raises a UserError where a file is not that any more which the key is of."""
        now = self.file_states()
        if changed := [path for path, state in self.before.items() if now.get(path) != state]:
            raise UserError(f"{changed[0]} changed while it was read; start again")

    def folder(self, key: str) -> Path:
        return self.cache_dir / f"{self.task.name}-{self.split}-{key[:16]}"

    def cached(self, key: str) -> TokenStore | None:
        """The store in the cache, if it is there and whole."""
        folder = self.folder(key)
        damage = ""
        for _ in range(2):  # Another process may just have made it again.
            if not folder.is_dir():
                return None
            try:
                return self._whole(read_store(folder), key)
            except Damaged as reason:
                damage = str(reason)
        logging.warning(
            "the token store %s is damaged or of another version (%s); it is made again",
            folder,
            damage,
        )
        remove_store(folder)
        return None

    def _whole(self, store: TokenStore, key: str) -> TokenStore:
        """The store, where it is that of the split; raises Damaged where not."""
        if store.key != key:
            raise Damaged("it is that of another split")
        expected = {
            "labels": self.task.splits[self.split].has_labels,
            "windows": self.tokenizer.windows > 1,
            "groups": self.task.kind.by_query,
        }
        for name, is_there in expected.items():
            if (getattr(store, name) is not None) != is_there:
                raise Damaged(f"its {name} are not listed")
        return store

    def make(self, key: str, part: _Part | None = None) -> TokenStore:
        """Tokenises the split, or a part of it, into the cache."""
        folder = self.folder(key)
        try:
            with new_folder(folder) as partial:
                count = self._write(StoreWriter(partial), key, part)
            logging.info(
                "%s/%s: tokenized %d examples into %s", self.task.name, self.split, count, folder
            )
            return read_store(folder)
        except (OSError, Damaged) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot write the token store {folder}: {reason}") from error

    def _write(self, writer: StoreWriter, key: str, part: _Part | None) -> int:
        task, spec, reader = self.task, self.task.splits[self.split], self.reader()
        queries = Queries(task, spec) if task.kind.by_query else None
        labels: list[float] = []
        uid_lengths: list[np.ndarray] = []

        def pieces() -> Iterator[Sequence[Sequence[str]]]:
            chosen = (row for n, row in enumerate(reader) if part is None or part.has_row[n])
            while piece := list(islice(chosen, CHUNK)):
                labels.extend(row.label for row in piece)
                uids = Uids.of([row.uid for row in piece])
                uid_bytes.append(uids.data)
                uid_lengths.append(np.diff(uids.offsets))
                for row in piece if queries else ():
                    queries.add(row.texts[0], row.place)  # type: ignore[union-attr]
                yield list(zip(*(row.texts for row in piece), strict=True))

        @cache
        def in_graph() -> Encode:
            return self.tokenizer.encode_in_graph(len(task.fields))

        def encoded(texts: Sequence[Sequence[str]]) -> Tokens:
            is_whole = len(texts[0]) == CHUNK  # Fewer are done before a graph is made.
            return encode_texts(in_graph() if is_whole else self.tokenizer.encode, texts)

        of_examples: list[tuple[np.ndarray, ...]] = []
        progress = _Progress(f"{task.name}/{self.split}", reader)
        with writer.appending("token_ids", "type_ids", "uid_bytes") as (
            token_ids,
            type_ids,
            uid_bytes,
        ):
            for tokens in _in_threads(encoded, pieces()):
                token_ids.append(tokens.token_ids)
                type_ids.append(tokens.type_ids)
                of_examples.append(tokens[2:])
                progress.add(len(tokens.windows))
        self.check_unchanged()
        remarks = reader.remarks
        columns = map(np.concatenate, zip(*of_examples, strict=True))
        arrays = dict(zip(Tokens._fields[2:], columns, strict=True))
        lengths = arrays.pop("lengths")
        arrays["uid_lengths"] = np.concatenate(uid_lengths)
        if spec.has_labels:
            arrays["labels"] = np.array(labels, np.float32)
        if queries is not None:
            found, more = queries.grouped(arrays.get("labels"))
            remarks += more
            first, count = offsets_of(arrays["windows"]), arrays["windows"]
            _reorder(writer, ("token_ids", "type_ids"), offsets_of(lengths)[first], found.order)
            _reorder(writer, ("uid_bytes",), offsets_of(arrays["uid_lengths"]), found.order)
            lengths = lengths[ranges(first[found.order], count[found.order])]
            arrays = {name: array[found.order] for name, array in arrays.items()}
            arrays["groups"] = found.groups
        arrays["offsets"] = offsets_of(lengths)
        arrays["uid_offsets"] = offsets_of(arrays.pop("uid_lengths"))
        if self.tokenizer.windows == 1:
            del arrays["windows"]
        for name, array in arrays.items():
            writer.add(name, array)
        writer.finish(key, reader.skipped, "; ".join(remarks if part is None else part.remarks))
        return len(arrays["is_cut"])


def _reorder(
    writer: StoreWriter, names: Sequence[str], offsets: np.ndarray, order: np.ndarray
) -> None:
    """Puts the parts of arrays that belong to examples into another order, a piece at a time."""
    if np.array_equal(order, np.arange(len(offsets) - 1)):
        return
    lengths = np.diff(offsets)
    for name in names:
        before = writer.read(name)
        with writer.replacing(name) as file:
            for start in range(0, len(order), CHUNK):
                rows = order[start : start + CHUNK]
                file.append(before[ranges(offsets[rows], lengths[rows])])


def _survey(making: _Making, choices: Sequence[Choice], key: str) -> _Part | None:
    """Reads a split without tokenising it; None where more than half of it is used."""
    reader = making.reader()
    spec = making.task.splits[making.split]
    queries = Queries(making.task, spec) if making.task.kind.by_query else None
    labels: list[float] = []
    count = 0
    for row in reader:
        count += 1
        if queries is not None:
            queries.add(row.texts[0], row.place)
            labels.append(row.label)
    remarks, rows, items = reader.remarks, np.arange(count), np.arange(count)
    if queries is not None:
        found, more = queries.grouped(np.array(labels, np.float32))
        remarks, rows, items = remarks + more, found.order, found.groups
    used = np.arange(len(np.unique(items)))
    for choice in choices:
        chosen = choice(len(used))
        key, used = subset_key(key, chosen), used[chosen]
    in_part = np.isin(items, used)
    if 2 * in_part.sum() > count:
        return None
    has_row = np.zeros(count, bool)
    has_row[rows[in_part]] = True
    return _Part(key, has_row, remarks)


def _in_threads(
    function: Callable[[Sequence[Sequence[str]]], Tokens],
    pieces: Iterable[Sequence[Sequence[str]]],
) -> Iterator[Tokens]:
    """What a function gives for each piece, in order, with a few pieces under way at once."""
    with ThreadPoolExecutor(_THREADS) as pool:
        running: deque[Future[Tokens]] = deque()
        for piece in pieces:
            running.append(pool.submit(function, piece))
            if len(running) > 2 * _THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


class _Progress:
    """Says now and then how far a split is; nothing of a short one."""

    def __init__(self, name: str, reader: SplitReader) -> None:
        self._name, self._reader, self._rows = name, reader, 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int) -> None:
        """Counts rows that are done."""
        self._rows += rows
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        speed = self._rows / (now - self._start)
        share = f" ({100 * self._reader.fraction:.0f} % read)" if self._reader.fraction else ""
        logging.info(
            "%s: tokenizing, %s rows%s, %s rows/s",
            self._name,
            f"{self._rows:,}",
            share,
            f"{speed:,.0f}",
        )


def _reading(task: TaskSpec, split: str, on_bad_row: OnBadRow) -> dict[str, Any]:
    """What the rows of a split depend on besides the content of its files."""
    spec = task.splits[split]
    formats = [spec.format_of(file) for file in spec.files]
    # These are read as they always were, and have the keys that runs of earlier versions noted.
    others = {} if set(formats) <= {"tsv", "jsonl"} else {"formats": formats}
    unset = {"quoting"} if spec.quoting is None else set()
    return {
        "format": FORMAT,
        "kind": task.kind.name,
        "fields": task.fields,
        "labels": task.labels,
        "label_values": task.label_values,
        "score_range": task.score_range,
        "incomplete_groups": task.ranking_settings.incomplete_groups
        if task.kind.by_query
        else None,
        "split": spec.model_dump(exclude={"file", "tfds", "optional", "format", *unset}),
        "is_jsonl": spec.has_keys,
        "on_bad_row": on_bad_row,
        **others,
    }


def _hash(parts: dict[str, Any], content: bytes) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + content).hexdigest()
