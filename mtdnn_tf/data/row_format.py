"""From a line of a TSV or JSONL file to a row's texts, label and uid, or the reason it is bad."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtdnn_tf.data.candidates import parse_candidates
from mtdnn_tf.data.row import BadRow, Row
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import SplitSpec, TaskSpec

FLOAT32_MAX = float(np.finfo(np.float32).max)


def row_parser(
    task: TaskSpec, spec: SplitSpec, path: Path, first_line: str
) -> Callable[[str], list[Row]]:
    """Returns a function from a line to its rows, which raises `BadRow`.

    A line is one row, but with `candidate_lists` a row for each candidate.

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
    # What is read of a row: text fields first, then the label, then the uid.
    names = [name for name in (*task.fields, "label", "uid") if spec.column_of(name) is not None]
    if spec.is_jsonl:
        cells_of = _json_cells(task, {name: str(spec.column_of(name)) for name in names})
    else:
        cells_of = _tsv_cells(spec, names, path, first_line.split("\t"))
    label_of = (_scores if task.is_regression else _class_ids)(task)
    field_count = len(task.fields)
    has_labels, has_uid = "label" in names, "uid" in names

    def parse(line: str) -> list[Row]:
        cells = [cell.strip() for cell in cells_of(line)]
        texts = cells[:field_count]
        if has_labels and not all(texts):
            raise BadRow(f"{task.fields[texts.index('')]} is empty, expected text")
        if has_uid and not cells[-1]:
            raise BadRow("uid is empty")
        label = label_of(cells[field_count]) if has_labels else 0.0
        return [Row(texts, label, cells[-1] if has_uid else "")]

    return parse


def _tsv_cells(
    spec: SplitSpec, names: list[str], path: Path, first_cells: list[str]
) -> Callable[[str], list[str]]:
    count = spec.column_count or len(first_cells)
    if spec.header and count != len(first_cells):
        raise UserError(f"{path}:1: {len(first_cells)} columns in the header, expected {count}")
    positions = []
    for name in names:
        column = spec.column_of(name)
        position = (
            column if isinstance(column, int) else _find(name, str(column), first_cells, path)
        )
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


def _json_cells(task: TaskSpec, keys: dict[str, str]) -> Callable[[str], list[str]]:
    def cells_of(line: str) -> list[str]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadRow(f"not a JSON object: {line[:40]}")
        cells = []
        for name, key in keys.items():
            if key not in row:
                raise BadRow(f"no key {key!r} for {name}{did_you_mean(key, row)}")
            cells.append(_json_cell(key, row[key], allow_number=name not in task.fields))
        return cells

    return cells_of


def _json_cell(key: str, value: object, allow_number: bool) -> str:
    if allow_number and isinstance(value, int | float) and not isinstance(value, bool):
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
    expected = " or ".join(repr(name) for name in ids)

    def class_id(text: str) -> float:
        if text in ids:
            return ids[text]
        is_number = text.removeprefix("-").isdecimal()
        hint = "; map numbers to names with label_values" if is_number else ""
        raise BadRow(f"label {text!r}, expected {expected}{'' if task.label_values else hint}")

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
