"""Texts that a user wants predicted, from a file in any format that is read."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from absl import flags, logging

from mtdnn_tf.data.row import BadRow
from mtdnn_tf.data.sources import Rows, read_split
from mtdnn_tf.data.tables import open_table
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import TABLES, FileFormat, Quoting, SplitSpec, columns_in, format_of

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
            row does not name the task's fields, and says that it may be a row of texts.
        columns: Field to the name of its column, where it has another, or to its 0-based position.
            A `uid` of None is the number of the row, whatever columns there are.
        format: The format; None is what the suffix says.
        quoting: Of a table: see `SplitSpec.quoting`.
    """

    path: Path
    header: Header = "auto"
    columns: Mapping[str, str | int | None] = field(default_factory=dict)
    format: FileFormat | None = None
    quoting: Quoting | None = None

    @property
    def format_or_suffix(self) -> FileFormat:
        """The format that is given, else the suffix's.

        Raises:
            UserError: There is none.
        """
        try:
            return self.format or format_of(self.path.name)
        except ValueError as error:
            raise UserError(f"{error}".replace("or say format:", "or give --format")) from None


@contextmanager
def input_file(values: flags.FlagValues) -> Iterator[InputFile]:
    """The file that the flags of `cli.define_input_flags` name, which can be read again and again.

    What can be read just once, as standard input or a pipe, is copied.

    Raises:
        UserError: A flag is wrong.
    """
    columns: Columns = {}
    for assignment in values.columns:
        name, equals, column = assignment.partition("=")
        if not (name and equals and (column or name == "uid")):
            raise UserError(
                f"--columns={assignment}: expected field=column, such as sentence=review"
            )
        is_position = values.header == "false" and column.isdecimal()
        columns[name] = int(column) if is_position else column or None
    with tempfile.TemporaryDirectory() as folder:
        path, format = Path(values.input), values.format
        if format is not None and format not in get_args(FileFormat):
            raise UserError(f"--format={format}: expected one of {', '.join(get_args(FileFormat))}")
        if values.input == "-" or path.is_fifo():
            content = sys.stdin.buffer.read() if values.input == "-" else path.read_bytes()
            path = Path(folder) / ("standard_input" if values.input == "-" else path.name)
            path.write_bytes(content)
            format = format or _format_of_content(path.name, content)
        yield InputFile(path, values.header, columns, format, values.quoting)


def _format_of_content(name: str, content: bytes) -> FileFormat:
    """What the suffix says, else the first character: an object or an array is JSON, else TSV."""
    with suppress(ValueError):
        return format_of(name)
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "json" if start in (b"{", b"[") else "tsv"


def read_inputs(task: TaskSpec, source: Path | InputFile) -> Rows:
    """Reads the texts of a task; what a user should know of them is logged.

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
    spec = _layout(source)
    if source.format_or_suffix in TABLES and source.header == "false":
        spec = _by_position(task, source, spec)
    else:
        spec = _by_name(task, source, spec)
    try:
        rows = read_split(task.model_copy(update={"splits": {"test": spec}}), "test", Path())
    except UserError as error:
        raise UserError(_in_flags(str(error))) from error
    if rows.remark:
        logging.warning("%s: %s", source.path, _in_flags(rows.remark))
    return rows


def _in_flags(message: str) -> str:
    """A message about a split as it is for a file that flags describe."""
    return message.replace("quoting: csv", "--quoting=csv")


def _layout(source: InputFile) -> SplitSpec:
    """The layout of a file, but for its columns."""
    if source.quoting is not None and source.format_or_suffix not in TABLES:
        raise UserError(f"--quoting={source.quoting}: {source.path} is no TSV or CSV file")
    return SplitSpec(
        file=str(source.path.absolute()),
        format=source.format_or_suffix,
        quoting=source.quoting,
        columns={"label": None},
    )


def _by_position(task: TaskSpec, source: InputFile, spec: SplitSpec) -> SplitSpec:
    """The layout of a table without a header."""
    columns = dict(source.columns) or {name: i for i, name in enumerate(task.fields)}
    if by_name := [name for name, column in columns.items() if isinstance(column, str)]:
        raise UserError(
            f"--columns: {by_name[0]}={columns[by_name[0]]}: without a header, give a 0-based "
            "position"
        )
    if missing := [name for name in task.fields if name not in columns]:
        raise UserError(
            f"--columns: without a header, give the position of every field; {missing[0]} has none"
        )
    positions = [column for column in columns.values() if column is not None]
    if len(set(positions)) < len(positions):
        raise UserError("--columns: a position is given twice")
    update = {"header": False, "columns": {"label": None, **columns}}
    if not source.columns:
        update["column_count"] = len(task.fields)
    return spec.model_copy(update=update)


def _by_name(task: TaskSpec, source: InputFile, spec: SplitSpec) -> SplitSpec:
    """The layout of a file whose columns or keys have names."""
    names = _names(source, spec)
    columns = _columns_of(task, source, names)
    spec = spec.model_copy(update={"columns": {"label": None, **columns}})
    candidates = str(columns[task.fields[-1]])
    is_list = task.kind.by_query and isinstance(_first_value(source, spec, candidates), list)
    return spec.model_copy(update={"candidate_lists": is_list})


def _names(source: InputFile, spec: SplitSpec) -> list[str]:
    """The names of the columns, or the first row's keys."""
    with open_table(source.path, spec, _PURPOSE, ()) as table:
        if table.names is not None:
            return table.names
        place, first = next(table.rows, (str(source.path), BadRow("there are no rows")))
        if isinstance(first, BadRow):
            raise UserError(f"{place}: {first}")
        return list(first)


def _first_value(source: InputFile, spec: SplitSpec, key: str) -> object:
    """What the first row has for a key; None in a table."""
    with open_table(source.path, spec, _PURPOSE, (key,)) as table:
        _, first = next(table.rows, ("", None))
        return first.get(key) if isinstance(first, dict) else None


def _columns_of(task: TaskSpec, source: InputFile, names: Sequence[str]) -> Columns:
    """The column of each of the task's fields, and of the uid where there is one.

    Raises:
        UserError: The file does not have them.
    """
    is_table = source.format_or_suffix in TABLES
    place = f"{source.path}:1" if is_table else str(source.path)
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
    for name, column in source.columns.items():
        if lacking := [part for part in columns_in(column) if part not in names]:
            raise UserError(
                f"{place}: --columns={name}={column}: no column {lacking[0]!r}; found {found}"
            )
    if not is_table or source.header == "true":
        kind = "columns" if is_table else "keys"
        raise UserError(
            f"{place}: {task.name} takes {wanted}; found the {kind} {found}; "
            f"--columns={task.fields[0]}=NAME says which is which"
        )
    raise UserError(
        f"{place}: {task.name} takes {wanted}, which this row does not name: {found}; "
        f"--columns={task.fields[0]}=NAME if it is a header with other names, --header=false if it is "
        "a row of texts"
    )
