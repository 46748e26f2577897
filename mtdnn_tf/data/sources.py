"""The rows of a task's splits, read strictly from files or from TensorFlow Datasets."""

import copy
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from mtdnn_tf.data.candidates import Queries
from mtdnn_tf.data.row import BadRow, Row, hash_of
from mtdnn_tf.data.row_format import opens_quote, reads_of, row_parser
from mtdnn_tf.data.tables import open_table, opened
from mtdnn_tf.data.tfds_source import TfdsSplit
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import OnBadRow, SplitSpec, TaskSpec

# A whole cell in quotes with doubled quotes inside, as every writer of CSV makes it.
_QUOTED = re.compile(r'"(?=.*"")([^"]|"")+"', re.DOTALL)

# The files of a split, and what changes when one is written anew.
FileStates = dict[Path, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Rows:
    """The usable rows of one split, in the order of the source.

    Attributes:
        texts: Text field to its `n` strings, without white space at their ends.
        labels: `[n] float32`: class ids, or scores of a similarity task; None without labels.
        uids: `n` different strings: the `uid` column, or the 0-based number of the row in the split
            (rows left out count, so that leaving one out renames no other). A candidate of a list
            has the row's uid, a hyphen, and its position in the list.
        skipped: How many bad rows were left out.
        groups: `[n] int32`, the number of each row's query, from 0; None but for ranking tasks.
        remark: What a user should know of the rows; may be empty.
    """

    texts: dict[str, list[str]]
    labels: np.ndarray | None
    uids: list[str]
    skipped: int
    groups: np.ndarray | None = None
    remark: str = ""

    def __len__(self) -> int:
        return len(self.uids)


def split_paths(task: TaskSpec, split: str, data_dir: Path) -> tuple[Path, ...]:
    """Returns where the files of a split are, none where its rows are in TensorFlow Datasets.

    Raises:
        UserError: The task has no such split.
    """
    spec = _split_spec(task, split)
    folders = (Path(data_dir) / (task.folder or ""), Path(data_dir))
    paths = []
    for file in spec.files:
        places = [folder / name for name in (file, *spec.other_names) for folder in folders]
        there = (place for place in places if place.exists())
        paths.append(next(there, Path(data_dir) / file))
    return tuple(paths)


def available_splits(
    task: TaskSpec, prefix: str, data_dir: Path, tfds_dir: Path | None = None
) -> tuple[str, ...]:
    """Returns the task's splits that begin with `prefix`, less optional ones that are not there.

    A missing one that is not optional is left for `read_split` to complain about.

    Raises:
        UserError: An optional split is in a data set of TensorFlow Datasets that cannot be opened.
    """
    found = []
    for split in task.splits_like(prefix):
        lacking = ""
        if task.splits[split].optional:
            missing = [f"file {p}" for p in split_paths(task, split, data_dir) if not p.exists()]
            parts = _tfds_splits(task, split, tfds_dir)
            missing += [f"split in {part}" for part in parts if not part.exists()]
            lacking = missing[0] if missing else ""
        if lacking:
            logging.warning("task %s: split %s is left out: no %s", task.name, split, lacking)
        else:
            found.append(split)
    return tuple(found)


def content_hash(task: TaskSpec, split: str, data_dir: Path, tfds_dir: Path | None = None) -> bytes:
    """Returns a SHA-256 of all that the rows of a split are read from.

    Raises:
        UserError: There is no such split or source.
    """
    digest = hashlib.sha256()
    for path in split_paths(task, split, data_dir):
        with opened(path, _purpose(task, split)) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for part in _tfds_splits(task, split, tfds_dir):
        digest.update(part.content_hash())
    return digest.digest()


def file_states(task: TaskSpec, split: str, data_dir: Path) -> FileStates:
    """What tells that a file of a split was written anew: size, time of change in ns, and inode.

    Raises:
        UserError: There is no such split or file.
    """
    states: FileStates = {}
    for path in split_paths(task, split, data_dir):
        with opened(path, _purpose(task, split)) as file:
            found = os.fstat(file.fileno())
        states[path] = (found.st_size, found.st_mtime_ns, found.st_ino)
    return states


class UsableRow(NamedTuple):
    """A row that can be used.

    Attributes:
        texts: The texts of the task's fields, in their order.
        label: A class id or a score; 0 without labels.
        uid: What it is called.
        place: File and line, or data set and row.
    """

    texts: list[str]
    label: float
    uid: str
    place: str


class SplitReader:
    """The usable rows of one split, in the order of the source, without holding them all.

    A row is bad if it has too few or too many columns, is not UTF-8 or not the expected JSON, has
    a label that the task does not have, a uid that is empty or was used before, or, in a split
    with labels, an empty text. A split without labels keeps empty texts: a submission to GLUE
    answers every row.

    Args:
        task: The task.
        split: Name of one of its splits.
        data_dir: The folder that relative paths of the spec start from.
        on_bad_row: `error` stops at the first bad row; `skip` leaves bad rows out and logs how
            many. The split's own `on_bad_row` goes first.
        tfds_dir: The folder of TensorFlow Datasets; None is its own default.

    Attributes:
        skipped: How many bad rows were left out; known after the last row.
        fraction: How much of the source was read, 0 to 1.

    Raises:
        UserError: There is no such split.
    """

    def __init__(
        self,
        task: TaskSpec,
        split: str,
        data_dir: Path,
        on_bad_row: OnBadRow = "error",
        tfds_dir: Path | None = None,
    ) -> None:
        self._task, self._split, self._spec = task, split, _split_spec(task, split)
        self._data_dir, self._tfds_dir = data_dir, tfds_dir
        self._is_strict = (self._spec.on_bad_row or on_bad_row) == "error"
        self.skipped, self.fraction = 0, 0.0
        self._left_out = self._usable = self._quoted = 0
        self._first_quoted = ""

    def __iter__(self) -> Iterator[UsableRow]:
        """Yields the rows.

        Raises:
            UserError: There is no such source, it has no usable row, or, with `error`, a bad row.
                The message names the file and line, or the data set and row.
        """
        self.skipped = self._left_out = self._usable = self._quoted = 0
        uids: set[bytes] = set()
        first_bad = ""
        for number, (place, found) in enumerate(self._records()):
            try:
                if isinstance(found, BadRow):
                    raise found
                if not found:
                    self._left_out += 1
                    continue
                uid = found[0].uid or str(number)
                if found[0].uid:  # Numbers of rows differ anyway.
                    if (mark := hash_of(uid)) in uids:
                        before = "" if first_bad else f", at {self._place_of(uid)}"
                        raise BadRow(f"uid {uid!r} was used before{before}")
                    uids.add(mark)
            except BadRow as reason:
                first_bad = first_bad or f"{place}: {reason}"
                self.skipped += 1
                if self._is_strict:
                    raise UserError(first_bad) from None
                continue
            self._usable += len(found)
            for position, row in enumerate(found):
                name = f"{uid}-{position}" if self._spec.candidate_lists else uid
                yield UsableRow(row.texts, row.label, name, place)
        self._check_any_left(first_bad)
        if first_bad:
            total = self._usable + self.skipped + self._left_out
            logging.warning("skipped %d of %d rows; the first: %s", self.skipped, total, first_bad)

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the rows; known after the last row."""
        remarks = []
        if self._left_out:
            labels = " or ".join(repr(label) for label in self._spec.skip_labels)
            total = self._usable + self.skipped + self._left_out
            remarks.append(
                f"{self._left_out:,} of {total:,} rows are labelled {labels} and left out"
            )
        if self._quoted:
            remarks.append(
                f"{self._quoted:,} texts look quoted as in CSV, such as {self._first_quoted[:60]!r}, "
                "and are read as they stand; quoting: csv reads them as CSV"
            )
        return remarks

    def _records(self) -> Iterator[tuple[str, list[Row] | BadRow]]:
        """Where each row stands, and what it gives or why it is bad."""
        purpose = _purpose(self._task, self._split)
        paths = split_paths(self._task, self._split, self._data_dir)
        wanted = {str(read.column) for read in reads_of(self._task, self._spec)}
        for number, path in enumerate(paths):
            with open_table(path, self._spec, purpose, wanted) as table:
                parse = row_parser(self._task, self._spec, path, table.names)
                notes_quotes = (
                    self._spec.quoting is None and self._spec.format_of(str(path)) == "tsv"
                )
                is_empty = True
                for place, record in table.rows:
                    is_empty = False
                    self.fraction = (number + table.fraction()) / len(paths)
                    found: list[Row] | BadRow
                    try:
                        if isinstance(record, BadRow):
                            raise record
                        found = parse(record)
                        if notes_quotes:
                            self._note_quotes(found, has_one_column=len(record) == 1)
                    except BadRow as reason:
                        found = reason
                    yield place, found
                if is_empty:
                    raise UserError(f"{purpose}: {path} has no rows")
        for part in _tfds_splits(self._task, self._split, self._tfds_dir):
            yield from part.read()

    def _note_quotes(self, rows: list[Row], has_one_column: bool) -> None:
        """Counts texts that look quoted; a line end in one shows only where there are no columns."""
        for row in rows:
            for text in row.texts:
                is_open = has_one_column and opens_quote(text)
                if is_open or (text[:1] == '"' and _QUOTED.fullmatch(text)):
                    self._first_quoted = self._first_quoted or text
                    self._quoted += 1

    def _place_of(self, uid: str) -> str:
        """Where a uid stands first: read once more, since the places are not kept."""
        again = copy.copy(self)  # What was counted stays as it is.
        return next(
            place
            for place, found in again._records()
            if not isinstance(found, BadRow) and found and found[0].uid == uid
        )

    def _check_any_left(self, first_bad: str) -> None:
        if self._usable:
            return
        reason = "every row is left out by skip_labels"
        if first_bad:
            reason = f"all {self.skipped} rows are bad; the first: {first_bad}"
        raise UserError(f"{_purpose(self._task, self._split)}: {reason}")


def read_split(
    task: TaskSpec,
    split: str,
    data_dir: Path,
    on_bad_row: OnBadRow = "error",
    tfds_dir: Path | None = None,
) -> Rows:
    """Reads one split of a task, the rows of a ranking task put together by query.

    See `SplitReader` for the arguments and what is raised.
    """
    reader = SplitReader(task, split, data_dir, on_bad_row, tfds_dir)
    spec = task.splits[split]
    rows = list(reader)
    labels = np.array([row.label for row in rows], np.float32) if spec.has_labels else None
    remarks, groups = reader.remarks, None
    if task.kind.by_query:
        queries = Queries(task, spec)
        for row in rows:
            queries.add(row.texts[0], row.place)
        found, more = queries.grouped(labels)
        rows = [rows[position] for position in found.order]
        labels = None if labels is None else labels[found.order]
        remarks, groups = remarks + more, found.groups
    return Rows(
        texts={name: [row.texts[i] for row in rows] for i, name in enumerate(task.fields)},
        labels=labels,
        uids=[row.uid for row in rows],
        skipped=reader.skipped,
        groups=groups,
        remark="; ".join(remarks),
    )


def _tfds_splits(task: TaskSpec, split: str, tfds_dir: Path | None) -> list[TfdsSplit]:
    spec = task.splits[split]
    purpose = _purpose(task, split)
    return [TfdsSplit(task, spec, name, tfds_dir, purpose) for name in spec.tfds_names]


def _purpose(task: TaskSpec, split: str) -> str:
    return f"task {task.name!r}, split {split!r}"


def _split_spec(task: TaskSpec, split: str) -> SplitSpec:
    if split not in task.splits:
        hint = did_you_mean(split, task.splits)
        raise UserError(f"task {task.name!r} has no split {split!r}{hint}")
    return task.splits[split]
