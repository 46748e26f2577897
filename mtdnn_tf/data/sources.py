"""The rows of a task's splits, read strictly from files or from TensorFlow Datasets."""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from mtdnn_tf.data.candidates import group_rows
from mtdnn_tf.data.row import BadRow, Row
from mtdnn_tf.data.text_files import read_bytes, read_file
from mtdnn_tf.data.tfds_source import TfdsSplit
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import OnBadRow, SplitSpec, TaskSpec


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
        digest.update(hashlib.sha256(read_bytes(path, _purpose(task, split))).digest())
    for part in _tfds_splits(task, split, tfds_dir):
        digest.update(part.content_hash())
    return digest.digest()


def read_split(
    task: TaskSpec,
    split: str,
    data_dir: Path,
    on_bad_row: OnBadRow = "error",
    tfds_dir: Path | None = None,
) -> Rows:
    """Reads one split of a task, the rows of a ranking task put together by query.

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

    Raises:
        UserError: There is no such split or source, it has no usable row, or, with `error`, a bad
            row. The message names the file and line, or the data set and row.
    """
    spec = _split_spec(task, split)
    is_strict = (spec.on_bad_row or on_bad_row) == "error"
    rows: list[Row] = []
    uids: list[str] = []
    places: list[str] = []
    bad_rows: list[str] = []
    left_out = 0
    place_of_uid: dict[str, str] = {}
    for number, (place, found) in enumerate(_read_parts(task, split, data_dir, tfds_dir)):
        try:
            if isinstance(found, BadRow):
                raise found
            if not found:
                left_out += 1
                continue
            uid = found[0].uid or str(number)
            if place_of_uid.setdefault(uid, place) != place:
                raise BadRow(f"uid {uid!r} was used before, at {place_of_uid[uid]}")
            rows += found
            places += [place] * len(found)
            uids += [f"{uid}-{i}" for i in range(len(found))] if spec.candidate_lists else [uid]
        except BadRow as reason:
            bad_rows.append(f"{place}: {reason}")
            if is_strict:
                raise UserError(bad_rows[0]) from None
    _check_any_left(task, split, rows, bad_rows)
    total = len(rows) + len(bad_rows) + left_out
    if bad_rows:
        logging.warning("skipped %d of %d rows; the first: %s", len(bad_rows), total, bad_rows[0])
    whole = Rows(
        texts={name: [row.texts[i] for row in rows] for i, name in enumerate(task.fields)},
        labels=np.array([row.label for row in rows], np.float32) if spec.has_labels else None,
        uids=uids,
        skipped=len(bad_rows),
        remark=_left_out_remark(spec, left_out, total),
    )
    if not task.is_ranking:
        return whole
    queries = places if spec.candidate_lists else whole.texts[task.fields[0]]
    return _by_query(task, whole, queries, places)


def _read_parts(
    task: TaskSpec, split: str, data_dir: Path, tfds_dir: Path | None
) -> Iterator[tuple[str, list[Row] | BadRow]]:
    for path in split_paths(task, split, data_dir):
        yield from read_file(task, task.splits[split], path, _purpose(task, split))
    for part in _tfds_splits(task, split, tfds_dir):
        yield from part.read()


def _tfds_splits(task: TaskSpec, split: str, tfds_dir: Path | None) -> list[TfdsSplit]:
    spec = task.splits[split]
    purpose = _purpose(task, split)
    return [TfdsSplit(task, spec, name, tfds_dir, purpose) for name in spec.tfds_names]


def _purpose(task: TaskSpec, split: str) -> str:
    return f"task {task.name!r}, split {split!r}"


def _check_any_left(task: TaskSpec, split: str, rows: list[Row], bad_rows: list[str]) -> None:
    if rows:
        return
    reason = "every row is left out by skip_labels"
    if bad_rows:
        reason = f"all {len(bad_rows)} rows are bad; the first: {bad_rows[0]}"
    raise UserError(f"{_purpose(task, split)}: {reason}")


def _left_out_remark(spec: SplitSpec, left_out: int, total: int) -> str:
    if not left_out:
        return ""
    labels = " or ".join(repr(label) for label in spec.skip_labels)
    return f"{left_out:,} of {total:,} rows are labelled {labels} and left out"


def _by_query(
    task: TaskSpec, rows: Rows, queries: Sequence[Hashable], places: Sequence[str]
) -> Rows:
    """The rows of each query beside each other; queries that the task skips are left out."""
    order, groups, query_count = group_rows(task, queries, rows.labels, places)
    kept = int(groups[-1]) + 1
    remarks = [rows.remark] if rows.remark else []
    if kept < query_count:
        remarks.append(
            f"{kept:,} of {query_count:,} queries have candidates of both labels "
            f"({kept / query_count:.1%}), with {len(order):,} of {len(rows):,} rows; "
            "the others are left out"
        )
    return Rows(
        texts={name: [column[i] for i in order] for name, column in rows.texts.items()},
        labels=None if rows.labels is None else rows.labels[order],
        uids=[rows.uids[i] for i in order],
        skipped=rows.skipped,
        groups=groups,
        remark="; ".join(remarks),
    )


def _split_spec(task: TaskSpec, split: str) -> SplitSpec:
    if split not in task.splits:
        hint = did_you_mean(split, task.splits)
        raise UserError(f"task {task.name!r} has no split {split!r}{hint}")
    return task.splits[split]
