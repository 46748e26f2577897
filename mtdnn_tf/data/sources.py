"""The rows of a task's files: TSV (no quoting, as in GLUE) and JSON lines, read strictly."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from mtdnn_tf.data.candidates import group_rows
from mtdnn_tf.data.row import BadRow, Row
from mtdnn_tf.data.row_format import row_parser
from mtdnn_tf.errors import UserError, did_you_mean, did_you_mean_file
from mtdnn_tf.tasks.spec import OnBadRow, SplitSpec, TaskSpec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, eq=False)
class Rows:
    """The usable rows of one split, in the file's order.

    Attributes:
        texts: Text field to its `n` strings, without white space at their ends.
        labels: `[n] float32`: class ids, or scores of a similarity task; None without labels.
        uids: `n` different strings: the `uid` column, or the 0-based number of the row in the file
            (bad rows count, so that leaving one out renames no other). A candidate of a list has the
            row's uid, a hyphen, and its position in the list.
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


def split_path(task: TaskSpec, split: str, data_dir: Path) -> Path:
    """Returns where the file of a split is; a UserError if the task has no such split."""
    file = _split_spec(task, split).file
    if task.folder is not None and (in_folder := Path(data_dir) / task.folder / file).exists():
        return in_folder
    return Path(data_dir) / file


def available_splits(task: TaskSpec, prefix: str, data_dir: Path) -> tuple[str, ...]:
    """Returns the task's splits that begin with `prefix`, less optional ones without a file.

    A missing file that is not optional is left for `read_split` to complain about.
    """
    found = []
    for split in task.splits_like(prefix):
        path = split_path(task, split, data_dir)
        if task.splits[split].optional and not path.exists():
            logging.warning("task %s: split %s is left out: no file %s", task.name, split, path)
        else:
            found.append(split)
    return tuple(found)


def read_split(task: TaskSpec, split: str, data_dir: Path, on_bad_row: OnBadRow = "error") -> Rows:
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

    Raises:
        UserError: There is no such split or file, the file has no usable row, or, with `error`, a
            bad row. The message names the file and line.
    """
    spec = _split_spec(task, split)
    purpose = f"task {task.name!r}, split {split!r}"
    path = split_path(task, split, data_dir)
    lines = _read_lines(path, purpose)
    header_lines = 1 if spec.header and not spec.is_jsonl else 0
    if len(lines) <= header_lines:
        raise UserError(f"{purpose}: {path} has no rows")
    if isinstance(lines[0], BadRow) and header_lines:
        raise UserError(f"{path}:1: {lines[0]}")
    first_line = "" if isinstance(lines[0], BadRow) else lines[0]
    parse = row_parser(task, spec, path, first_line)
    is_strict = (spec.on_bad_row or on_bad_row) == "error"

    rows: list[Row] = []
    uids: list[str] = []
    row_lines: list[int] = []
    bad_rows: list[str] = []
    line_of_uid: dict[str, int] = {}
    for number, line in enumerate(lines[header_lines:], header_lines + 1):
        try:
            if isinstance(line, BadRow):
                raise line
            of_line = parse(line)
            uid = of_line[0].uid or str(number - header_lines - 1)
            if line_of_uid.setdefault(uid, number) != number:
                raise BadRow(f"uid {uid!r} was used on line {line_of_uid[uid]} before")
            rows += of_line
            row_lines += [number] * len(of_line)
            uids += [f"{uid}-{i}" for i in range(len(of_line))] if spec.candidate_lists else [uid]
        except BadRow as reason:
            bad_rows.append(f"{path}:{number}: {reason}")
            if is_strict:
                raise UserError(bad_rows[0]) from None
    if not rows:
        raise UserError(f"{purpose}: all {len(bad_rows)} rows are bad; the first: {bad_rows[0]}")
    if bad_rows:
        total = len(rows) + len(bad_rows)
        logging.warning("skipped %d of %d rows; the first: %s", len(bad_rows), total, bad_rows[0])
    whole = Rows(
        texts={name: [row.texts[i] for row in rows] for i, name in enumerate(task.fields)},
        labels=np.array([row.label for row in rows], np.float32) if spec.has_labels else None,
        uids=uids,
        skipped=len(bad_rows),
    )
    if not task.is_ranking:
        return whole
    queries = row_lines if spec.candidate_lists else whole.texts[task.fields[0]]
    return _by_query(task, whole, queries, [f"{path}:{number}" for number in row_lines])


def _by_query(
    task: TaskSpec, rows: Rows, queries: Sequence[Hashable], places: Sequence[str]
) -> Rows:
    """The rows of each query beside each other; queries that the task skips are left out."""
    order, groups, query_count = group_rows(task, queries, rows.labels, places)
    kept = int(groups[-1]) + 1
    remark = ""
    if kept < query_count:
        remark = (
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
        remark=remark,
    )


def _split_spec(task: TaskSpec, split: str) -> SplitSpec:
    if split not in task.splits:
        hint = did_you_mean(split, task.splits)
        raise UserError(f"task {task.name!r} has no split {split!r}{hint}")
    return task.splits[split]


def _read_lines(path: Path, purpose: str) -> list[str | BadRow]:
    """Lines without their ends; in place of one that is not UTF-8, what is wrong with it.

    Only a line feed ends a line: sentences may hold U+2028 or U+0085, where `str.splitlines`
    would break them.
    """
    if path.is_dir():
        raise UserError(f"{purpose}: {path} is a directory, expected a file")
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        looked_for = "" if path.is_absolute() else f" (looked for {path.absolute()})"
        raise UserError(f"{purpose}: no file {path}{looked_for}{did_you_mean_file(path)}") from None
    except OSError as error:
        raise UserError(f"{purpose}: can't read {path}: {error.strerror}") from None
    offset = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
    raw_lines = data[offset:].split(b"\n")
    if not raw_lines[-1]:
        raw_lines.pop()
    lines: list[str | BadRow] = []
    for raw in raw_lines:
        try:
            lines.append(raw.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x} at offset {offset + error.start} of the file"
            lines.append(BadRow(f"{byte} is not UTF-8"))
        offset += len(raw) + 1
    return lines
