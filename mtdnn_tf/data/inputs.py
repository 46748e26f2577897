"""Texts that a user wants predicted, from a TSV or JSONL file."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtdnn_tf.data.sources import Rows, read_split
from mtdnn_tf.errors import UserError, did_you_mean_file
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import SplitSpec, columns_in

UID_COLUMNS = ("uid", "index", "id", "idx")
Columns = dict[str, str | int | None]


@contextmanager
def input_file(name: str) -> Iterator[Path]:
    """The file of an `--input` flag, which can be read again and again.

    Args:
        name: A path, or `-` for standard input. What can be read just once, as a pipe, is copied.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(name)
        if name == "-" or path.is_fifo():
            content = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
            path = Path(folder) / ("stdin.jsonl" if content[:1] == b"{" else "stdin.tsv")
            path.write_bytes(content)
        yield path


def has_names(path: Path, fields: Sequence[str]) -> bool:
    """Whether a file of texts is JSON lines, or begins with a header that names one of `fields`.

    Raises:
        UserError: The file cannot be read.
    """
    cells = {cell.strip().lower() for cell in _first_line(path).split("\t")}
    return path.suffix == ".jsonl" or not cells.isdisjoint(field.lower() for field in fields)


def read_inputs(task: TaskSpec, path: Path) -> Rows:
    """Reads the texts of a task.

    A `.jsonl` file has the task's fields as keys, or the keys of one of the task's own splits; the
    candidates of a ranking task may be a list. A TSV file has a header with the same, or no header
    and just the fields, in the spec's order. A column or key `uid`, `index`, `id` or `idx` names
    the rows; else their number does, from 0.

    Raises:
        UserError: The file is missing, its header is not the task's, or a row is bad.
    """
    first = _first_line(path)
    name = str(path.absolute())
    if path.suffix == ".jsonl":
        row = _json_object(first)
        spec = SplitSpec(
            file=name,
            columns=_header_columns(task, list(row)) or {"label": None, **_uid(list(row))},
            candidate_lists=task.is_ranking and isinstance(row.get(task.fields[1]), list),
        )
    elif columns := _header_columns(task, first.split("\t")):
        spec = SplitSpec(file=name, columns=columns)
    else:
        _refuse_near_header(task, first.split("\t"), path)
        positions: Columns = {field: i for i, field in enumerate(task.fields)}
        spec = SplitSpec(
            file=name,
            header=False,
            columns={"label": None, **positions},
            column_count=len(task.fields),
        )
    return read_split(task.model_copy(update={"splits": {"test": spec}}), "test", Path())


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    except OSError as error:
        hint = did_you_mean_file(path)
        raise UserError(f"cannot read {path}: {error.strerror}{hint}") from error


def _header_columns(task: TaskSpec, cells: list[str]) -> Columns | None:
    """The columns of the task's fields where `cells` are a header or keys, else None."""
    for columns in _known_columns(task):
        if {part for column in columns.values() for part in columns_in(column)} <= set(cells):
            return {"label": None, **columns, **_uid(cells)}
    return None


def _known_columns(task: TaskSpec) -> Iterator[Columns]:
    yield {field: field for field in task.fields}
    for split in task.splits.values():
        columns = {field: split.column_of(field) for field in task.fields}
        if split.header and not any(isinstance(column, int) for column in columns.values()):
            yield columns


def _refuse_near_header(task: TaskSpec, cells: list[str], path: Path) -> None:
    near = {cell.strip().lower() for cell in cells} & {field.lower() for field in task.fields}
    if near:
        raise UserError(
            f"{path}:1: looks like a header, but lacks some of {', '.join(task.fields)}: "
            f"{', '.join(cells)}"
        )


def _uid(columns: list[str]) -> Columns:
    return next(({"uid": name} for name in UID_COLUMNS if name in columns), {})


def _json_object(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}  # The reader of rows says what is wrong with it.
    return row if isinstance(row, dict) else {}
