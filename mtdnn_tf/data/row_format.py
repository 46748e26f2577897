"""From what a row of a file holds to its texts, label and uid, or the reason why it is bad."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mtdnn_tf.data.candidates import parse_candidates
from mtdnn_tf.data.row import BadRow, Row, cell_of, check_uid, value_of
from mtdnn_tf.data.tables import Record
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.label_cells import equal_to
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import SplitSpec, columns_in

FLOAT32_MAX = float(np.finfo(np.float32).max)
# What stands in place of a label in SNLI, and in TensorFlow Datasets.
NO_LABEL = ("-", "-1")
MOST_NAMED = 12  # Labels that a message lists.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)  # As JSON writes it.
T = TypeVar("T")


class Read(NamedTuple):
    """A column that is read, and for which text field, or `label` or `uid`."""

    name: str
    column: str | int


def reads_of(task: TaskSpec, spec: SplitSpec) -> list[Read]:
    """What is read of a row: the columns of the text fields, then the label, then the uid."""
    names = (*task.fields, "label", "uid")
    return [Read(name, column) for name in names for column in columns_in(spec.column_of(name))]


def row_parser(
    task: TaskSpec, spec: SplitSpec, path: Path, names: list[str] | None
) -> Callable[[Record], list[Row]]:
    """Returns a function from what a file's row holds to its rows, which raises `BadRow`.

    It is one row, but with `candidate_lists` a row for each candidate, and none if its label is one
    of `skip_labels`.

    Args:
        task: The task.
        spec: The split's layout.
        path: The file, for messages.
        names: The names of its columns; None where it has none, or each row keys of its own.

    Raises:
        UserError: A column is not there, or is there twice.
    """
    reads = reads_of(task, spec)
    if names is not None:
        _check_names(spec, names, path)
        for name, column in reads:
            if isinstance(column, str):
                _find(name, column, names, str(path) if spec.has_keys else f"{path}:1")
    if spec.candidate_lists:
        return lambda row: parse_candidates(task, spec, row)  # type: ignore[arg-type]
    cells_of = _values(task, reads) if spec.has_keys else _cells(spec, reads, path, names)
    rows_of = cells_parser(task, spec)
    return lambda row: rows_of(cells_of(row))


def cells_parser(task: TaskSpec, spec: SplitSpec) -> Callable[[Sequence[str]], list[Row]]:
    """Returns a function from the cells of `reads_of` to the row, which raises `BadRow`.

    It gives no row where the label is one of `skip_labels`. An empty text is a bad row in a split with
    labels, and with the quoting of CSV, where it stands for no value.
    """
    reads = reads_of(task, spec)
    columns = {
        name: [i for i, read in enumerate(reads) if read.name == name] for name in task.fields
    }
    text_count = sum(map(len, columns.values()))
    is_plain = all(spec.column_of(name) == reads[i].column for i, name in enumerate(task.fields))
    label_of = task.kind.label_parser(task)
    has_labels, has_uid = spec.has_labels, spec.column_of("uid") is not None
    needs_texts = has_labels or any(
        "csv" in (spec.format_of(file), spec.quoting_of(file)) for file in spec.files
    )
    skipped = equal_to(dict.fromkeys(spec.skip_labels, True))

    def parse(cells: Sequence[str]) -> list[Row]:
        cells = [cell.strip() for cell in cells]
        texts = cells[:text_count]
        if has_labels and skipped(cells[text_count]):
            return []
        if needs_texts and not all(texts):
            empty = reads[texts.index("")]
            raise BadRow(f"{empty.name if is_plain else empty.column} is empty, expected text")
        if has_uid:
            check_uid(cells[-1])
        try:
            label = label_of(cells[text_count]) if has_labels else 0.0
        except ValueError as error:
            raise BadRow(str(error)) from None
        if not is_plain:
            texts = [spec.fill(name, [cells[i] for i in columns[name]]) for name in task.fields]
        return [Row(texts, label, cells[-1] if has_uid else "")]

    return parse


def _check_names(spec: SplitSpec, names: list[str], path: Path) -> None:
    if spec.column_count not in (None, len(names)):
        raise UserError(
            f"{path}:1: {len(names)} columns in the header, expected {spec.column_count}"
        )


def _cells(
    spec: SplitSpec, reads: list[Read], path: Path, names: list[str] | None
) -> Callable[[Record], list[str]]:
    """Takes the cells of a table's row; without a header, rows are as long as the first."""
    count = spec.column_count or (len(names) if names is not None else 0)
    positions: list[int] = []

    def find_positions() -> None:
        for name, column in reads:
            position = column if isinstance(column, int) else (names or []).index(column)
            if position >= count:
                raise UserError(
                    f"{path}: {name} is at position {column}, but rows have {count} columns"
                )
            positions.append(position)

    def cells_of(row: Record) -> list[str]:
        nonlocal count
        count = count or len(row)
        if len(row) != count:
            raise BadRow(f"{len(row)} columns, expected {count}{_open_quote(spec, row)}")
        if not positions:
            find_positions()
        return [row[position] for position in positions]  # type: ignore[index]

    return cells_of


def _open_quote(spec: SplitSpec, row: Record) -> str:
    """A hint where a row may have been cut within a quoted cell."""
    is_open = spec.quoting is None and any(map(opens_quote, row))
    return "; quoting: csv reads quoted cells" if is_open else ""


def opens_quote(cell: str) -> bool:
    """Whether a cell begins with a quote that it does not close."""
    return cell[:1] == '"' and cell.count('"') % 2 == 1


def _find(name: str, column: str, header: list[str], place: str) -> None:
    """Raises a UserError if a column isn't in the header exactly once."""
    if header.count(column) == 1:
        return
    if column in header:
        raise UserError(f"{place}: {header.count(column)} columns are called {column!r}")
    hint = did_you_mean(column, header)
    if "did you mean" in hint:
        hint += " (known: " + ", ".join(header) + ")"
    if name == "label":
        hint += "; a test split without labels says `label: null`"
    raise UserError(f"{place}: no column {column!r} for {name}{hint}")


def _values(task: TaskSpec, reads: list[Read]) -> Callable[[Record], list[str]]:
    """Takes the values of a row with keys, as cells of a table."""

    def cells_of(row: Record) -> list[str]:
        return [
            cell_of(
                str(key),
                value_of(row, name, str(key)),  # type: ignore[arg-type]
                allow_number=name not in task.fields,
            )
            for name, key in reads
        ]

    return cells_of
