"""Texts that a user wants predicted, from a file in any format that is read."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from absl import flags

from mtdnn_tf.data.row import BadRow
from mtdnn_tf.data.sources import Rows, read_split
from mtdnn_tf.data.tables import open_table
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import TABLES, FileFormat, SplitSpec, columns_in, format_of

UID_COLUMNS = ("uid", "index", "id", "idx")
Header = Literal["auto", "true", "false"]
Columns = dict[str, str | int | None]
_PURPOSE = "input"


@dataclass(frozen=True)
class InputFile:
    """A file of texts, and how it is to be read.

    Attributes:
        path: The file.
        header: Of a table: whether its first row names its columns; `auto` is an error where that
            row does not name the task's fields.
        columns: Field to the name of its column, where it has another, or to its 0-based position.
        format: The format; None is what the suffix says.
    """

    path: Path
    header: Header = "auto"
    columns: Mapping[str, str | int] = field(default_factory=dict)
    format: FileFormat | None = None


@contextmanager
def input_file(values: flags.FlagValues) -> Iterator[InputFile]:
    """The file that the flags of `cli.define_input_flags` name, which can be read again and again.

    What can be read just once, as standard input or a pipe, is copied.

    Raises:
        UserError: A flag is wrong.
    """
    columns = {}
    for assignment in values.columns:
        name, equals, column = assignment.partition("=")
        if not (name and equals and column):
            raise UserError(
                f"--columns={assignment}: expected field=column, such as sentence=review"
            )
        columns[name] = int(column) if values.header == "false" and column.isdecimal() else column
    with tempfile.TemporaryDirectory() as folder:
        path, format = Path(values.input), values.format
        if format is not None and format not in get_args(FileFormat):
            raise UserError(f"--format={format}: expected one of {', '.join(get_args(FileFormat))}")
        if values.input == "-" or path.is_fifo():
            content = sys.stdin.buffer.read() if values.input == "-" else path.read_bytes()
            path = Path(folder) / "standard_input"
            path.write_bytes(content)
            format = format or _format_of_content(content)
        yield InputFile(path, values.header, columns, format)


def _format_of_content(content: bytes) -> FileFormat:
    """What the first character says: an object or an array is JSON, anything else a TSV table."""
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "json" if start in (b"{", b"[") else "tsv"


def read_inputs(task: TaskSpec, source: Path | InputFile) -> Rows:
    """Reads the texts of a task.

    The columns or keys are called as the task's fields, or as in one of the task's own splits, or as
    `columns` says; the candidates of a ranking task may be a list. A table without a header has just
    the fields, in the spec's order. A column or key `uid`, `index`, `id` or `idx` names the rows;
    else their number does, from 0.

    Raises:
        UserError: The file is missing or bad, or does not have the task's columns.
    """
    source = source if isinstance(source, InputFile) else InputFile(source)
    if unknown := [name for name in source.columns if name not in (*task.fields, "uid")]:
        raise UserError(
            f"--columns: {unknown[0]!r} is no field of {task.name}: {', '.join(task.fields)}"
        )
    try:
        format = source.format or format_of(source.path.name)
    except ValueError as error:
        raise UserError(f"{error}".replace("or say format:", "or give --format")) from None
    spec = SplitSpec(file=str(source.path.absolute()), format=format, columns={"label": None})
    if format in TABLES and source.header == "false":
        spec = _by_position(task, source, spec)
    else:
        names, first = _names(source, spec)
        columns = _columns_of(task, source, names, first, is_table=format in TABLES)
        is_list = isinstance(first, dict) and isinstance(
            first.get(str(columns.get(task.fields[-1]))), list
        )
        spec = spec.model_copy(
            update={
                "columns": {"label": None, **columns},
                "candidate_lists": task.is_ranking and is_list,
            }
        )
    return read_split(task.model_copy(update={"splits": {"test": spec}}), "test", Path())


def _by_position(task: TaskSpec, source: InputFile, spec: SplitSpec) -> SplitSpec:
    if by_name := [name for name, column in source.columns.items() if isinstance(column, str)]:
        raise UserError(
            f"--columns: {by_name[0]}={source.columns[by_name[0]]}: without a header, give a 0-based "
            "position"
        )
    positions: Columns = {name: i for i, name in enumerate(task.fields)}
    update = {"header": False, "columns": {"label": None, **positions, **source.columns}}
    if not source.columns:
        update["column_count"] = len(task.fields)
    return spec.model_copy(update=update)


def _names(source: InputFile, spec: SplitSpec) -> tuple[list[str], object]:
    """The names of the columns, or the first row's keys, and the first row."""
    with open_table(source.path, spec, _PURPOSE) as table:
        place, first = next(table.rows, (str(source.path), BadRow("there are no rows")))
        if table.names is not None:
            return table.names, first
        if isinstance(first, BadRow):
            raise UserError(f"{place}: {first}")
        return list(first), first


def _columns_of(
    task: TaskSpec, source: InputFile, names: Sequence[str], first: object, *, is_table: bool
) -> Columns:
    """The column of each of the task's fields, and of the uid where there is one.

    Raises:
        UserError: The file does not have them.
    """
    known: list[Columns] = [{name: name for name in task.fields}]
    for split in task.splits.values():
        columns = {name: split.column_of(name) for name in task.fields}
        if split.header and not any(isinstance(column, int) for column in columns.values()):
            known.append(columns)
    for columns in known:
        columns = {**columns, **source.columns}
        parts = {part for column in columns.values() for part in columns_in(column)}
        if parts <= set(names):
            uid: Columns = next(({"uid": name} for name in UID_COLUMNS if name in names), {})
            return uid | columns
    wanted = ", ".join(task.fields)
    found = " | ".join(names)[:200]
    if not is_table:
        raise UserError(
            f"{source.path}: {task.name} takes {wanted}; found the keys {found}; "
            f"--columns={task.fields[0]}=NAME says which is which"
        )
    raise UserError(
        f"{source.path}:1: {task.name} takes {wanted}, which this row does not name: {found}; "
        f"--columns={task.fields[0]}=NAME if it is a header with other names, --header=false if it is "
        "a row of texts"
    )
