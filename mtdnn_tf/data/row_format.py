"""From a line of a TSV or JSONL file to a row's texts, label and uid, or the reason it is bad."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtdnn_tf.data.candidates import parse_candidates
from mtdnn_tf.data.row import BadRow, Row, json_object, value_of
from mtdnn_tf.errors import UserError, did_you_mean, near
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import SplitSpec, columns_in

FLOAT32_MAX = float(np.finfo(np.float32).max)
# What stands in place of a label in SNLI, and in TensorFlow Datasets.
NO_LABEL = ("-", "-1")
MOST_NAMED = 12  # Labels that a message lists.


class Read(NamedTuple):
    """A column that is read, and for which text field, or `label` or `uid`."""

    name: str
    column: str | int


def reads_of(task: TaskSpec, spec: SplitSpec) -> list[Read]:
    """What is read of a row: the columns of the text fields, then the label, then the uid."""
    names = (*task.fields, "label", "uid")
    return [Read(name, column) for name in names for column in columns_in(spec.column_of(name))]


def row_parser(
    task: TaskSpec, spec: SplitSpec, path: Path, first_line: str
) -> Callable[[str], list[Row]]:
    """Returns a function from a line to its rows, which raises `BadRow`.

    A line is one row, but with `candidate_lists` a row for each candidate, and none if its label is
    one of `skip_labels`.

    Args:
        task: The task.
        spec: The split's layout.
        path: The file, for messages.
        first_line: The file's first line: a TSV file's header where it has one.

    Raises:
        UserError: The header lacks a column, or has one twice.
    """
    if spec.candidate_lists:
        return lambda line: parse_candidates(task, spec, line)
    reads = reads_of(task, spec)
    if spec.is_jsonl:
        cells_of = _json_cells(task, reads)
    else:
        cells_of = _tsv_cells(spec, reads, path, first_line.split("\t"))
    rows_of = cells_parser(task, spec)
    return lambda line: rows_of(cells_of(line))


def cells_parser(task: TaskSpec, spec: SplitSpec) -> Callable[[Sequence[str]], list[Row]]:
    """Returns a function from the cells of `reads_of` to the row, which raises `BadRow`.

    It gives no row where the label is one of `skip_labels`.
    """
    reads = reads_of(task, spec)
    columns = {
        name: [i for i, read in enumerate(reads) if read.name == name] for name in task.fields
    }
    text_count = sum(map(len, columns.values()))
    is_plain = all(spec.column_of(name) == reads[i].column for i, name in enumerate(task.fields))
    label_of = (_scores if task.is_regression else _class_ids)(task)
    has_labels, has_uid = spec.has_labels, spec.column_of("uid") is not None

    def parse(cells: Sequence[str]) -> list[Row]:
        cells = [cell.strip() for cell in cells]
        texts = cells[:text_count]
        if has_labels and cells[text_count] in spec.skip_labels:
            return []
        if has_labels and not all(texts):
            empty = reads[texts.index("")]
            raise BadRow(f"{empty.name if is_plain else empty.column} is empty, expected text")
        if has_uid and not cells[-1]:
            raise BadRow("uid is empty")
        label = label_of(cells[text_count]) if has_labels else 0.0
        if not is_plain:
            texts = [spec.fill(name, [cells[i] for i in columns[name]]) for name in task.fields]
        return [Row(texts, label, cells[-1] if has_uid else "")]

    return parse


def _tsv_cells(
    spec: SplitSpec, reads: list[Read], path: Path, first_cells: list[str]
) -> Callable[[str], list[str]]:
    count = spec.column_count or len(first_cells)
    if spec.header and count != len(first_cells):
        raise UserError(f"{path}:1: {len(first_cells)} columns in the header, expected {count}")
    positions = []
    for name, column in reads:
        position = column if isinstance(column, int) else _find(name, column, first_cells, path)
        if position >= count:
            raise UserError(
                f"{path}: {name} is at position {column}, but rows have {count} columns"
            )
        positions.append(position)

    def cells_of(line: str) -> list[str]:
        cells = line.split("\t")
        if len(cells) != count:
            raise BadRow(f"{len(cells)} columns, expected {count}")
        return [cells[position] for position in positions]

    return cells_of


def _find(name: str, column: str, header: list[str], path: Path) -> int:
    """Position of a column in the header; a UserError if it isn't there exactly once."""
    if header.count(column) == 1:
        return header.index(column)
    if column in header:
        raise UserError(f"{path}:1: {header.count(column)} columns are called {column!r}")
    hint = did_you_mean(column, header)
    if "did you mean" in hint:
        hint += " (known: " + ", ".join(header) + ")"
    if name == "label":
        hint += "; a test split without labels says `label: null`"
    raise UserError(f"{path}:1: no column {column!r} for {name}{hint}")


def _json_cells(task: TaskSpec, reads: list[Read]) -> Callable[[str], list[str]]:
    def cells_of(line: str) -> list[str]:
        row = json_object(line)
        return [
            _json_cell(str(key), value_of(row, name, str(key)), name not in task.fields)
            for name, key in reads
        ]

    return cells_of


def _json_cell(key: str, value: object, allow_number: bool) -> str:
    if allow_number and isinstance(value, bool):
        return json.dumps(value)
    if allow_number and isinstance(value, int | float):
        is_whole = isinstance(value, float) and value.is_integer()
        return str(int(value) if is_whole else value)
    if not isinstance(value, str):
        expected = "a string or a number" if allow_number else "a string"
        raise BadRow(f"{key} is {json.dumps(value)[:40]}, expected {expected}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{key} has half a surrogate pair, expected Unicode text") from None
    return value


def _class_ids(task: TaskSpec) -> Callable[[str], float]:
    """Returns a function from what a file says to the class id."""
    ids = {name: float(i) for i, name in enumerate(task.labels)}
    ids |= {value: ids[name] for value, name in task.label_values.items()}
    names = [repr(name) for name in ids]
    expected = " or ".join(names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], "another"])

    def class_id(text: str) -> float:
        if text in ids:
            return ids[text]
        hint = near(text, ids)
        if text in NO_LABEL:
            hint = f"; skip_labels: [{text!r}] leaves out rows without a label"
        elif text.isdecimal() and not task.label_values:
            hint = "; map numbers to names with label_values"
        raise BadRow(f"label {text!r}, expected {expected}{hint}")

    return class_id


def _scores(task: TaskSpec) -> Callable[[str], float]:
    """Returns a function from what a file says to the score."""
    low, high = task.score_range or (-FLOAT32_MAX, FLOAT32_MAX)
    expected = f"a number from {low:g} to {high:g}" if task.score_range else "a number"

    def score(text: str) -> float:
        try:
            value = math.nan if "_" in text else float(text)  # Python reads "1_0" as 10
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise BadRow(f"label {text!r}, expected {expected}")
        return value

    return score
