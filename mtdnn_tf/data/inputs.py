"""Texts that a user wants predicted, from a TSV or JSONL file."""

from pathlib import Path

from mtdnn_tf.data.sources import Rows, read_split
from mtdnn_tf.errors import UserError, did_you_mean_file
from mtdnn_tf.tasks.spec import SplitSpec, TaskSpec

UID_COLUMNS = ("uid", "index", "id")


def read_inputs(task: TaskSpec, path: Path) -> Rows:
    """Reads the texts of a task.

    A `.jsonl` file has the task's fields as keys. A TSV file has a header with the task's fields
    among its columns, or no header and just the fields, in the spec's order. A column (key, in
    every row) `uid`, `index` or `id` names the rows; else their number does, from 0.

    Raises:
        UserError: The file is missing or a row is bad.
    """
    try:
        with path.open("rb") as file:
            first = file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    except OSError as error:
        hint = did_you_mean_file(path)
        raise UserError(f"cannot read {path}: {error.strerror}{hint}") from error
    columns: dict[str, str | int | None] = {"label": None}
    if path.suffix == ".jsonl":
        spec = SplitSpec(file=str(path.absolute()), columns=columns | _uid(_json_keys(first)))
    else:
        cells = first.split("\t")
        header = set(task.fields) <= set(cells)
        columns |= _uid(cells) if header else {name: i for i, name in enumerate(task.fields)}
        spec = SplitSpec(
            file=str(path.absolute()),
            header=header,
            columns=columns,
            column_count=None if header else len(task.fields),
        )
    return read_split(task.model_copy(update={"splits": {"test": spec}}), "test", Path())


def _uid(columns: list[str]) -> dict[str, str | int | None]:
    return next(({"uid": name} for name in UID_COLUMNS if name in columns), {})


def _json_keys(line: str) -> list[str]:
    return [name for name in UID_COLUMNS if f'"{name}"' in line]
