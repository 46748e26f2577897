"""What is in a submission, for a person."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from mtdnn_tf.data.sources import split_paths
from mtdnn_tf.data.tables import open_table
from mtdnn_tf.submission.answering import head_of
from mtdnn_tf.submission.check import Report
from mtdnn_tf.submission.formats import GLUE_FILES, GlueFile
from mtdnn_tf.tasks import builtin_tasks


def summary_table(
    title: str,
    report: Report,
    glue_dir: Path | None = None,
    remarks: Mapping[str, str] | None = None,
) -> Table:
    """A table with a line a file: how often it has each value, beside train's.

    Args:
        title: Title of the table.
        report: What a check found.
        glue_dir: The folder of GLUE's files; None leaves train out.
        remarks: Name of a file to what is to be said of it.
    """
    table = Table(title=escape(title), title_justify="left")
    columns = ["file", "rows", "predictions", *(["train"] if glue_dir else [])]
    for name in [*columns, *(["answered by"] if remarks else [])]:
        table.add_column(name, justify="right" if name == "rows" else "left")
    for of_one in GLUE_FILES:
        shares = report.shares.get(of_one.file, {})
        cells = [of_one.name, f"{report.rows.get(of_one.file, 0):,}", _text(shares)]
        if glue_dir:
            cells.append(_text(train_shares(of_one, glue_dir)))
        if remarks:
            cells.append(escape(remarks[of_one.name]))
        table.add_row(*cells)
    return table


def train_shares(of_one: GlueFile, glue_dir: Path) -> dict[str, float]:
    """How often the train split has each value of a file, a fraction.

    Rows without a label of the task are not counted: this is for a person to compare with.

    Returns:
        None of them for scores, and where there is no train split.
    """
    task = head_of(builtin_tasks()[of_one.task])
    (path,) = split_paths(task, "train", glue_dir)
    if not of_one.values or not path.is_file():
        return {}
    spec = task.splits["train"]
    counts: Counter[str] = Counter()
    with open_table(path, spec, f"task {task.name!r}") as table:
        name, names = spec.column_of("label"), table.names or []
        if name not in names and not isinstance(name, int):
            return {}
        column = name if isinstance(name, int) else names.index(str(name))
        for _, cells in table.rows:
            if isinstance(cells, list) and column < len(cells):
                counts[task.label_values.get(cells[column], cells[column])] += 1
    total = sum(counts[label] for label in task.labels)
    shares = [counts[label] / total for label in task.labels if total]
    return dict(zip(of_one.values, shares, strict=False))


def _text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{value} {100 * share:.0f} %" for value, share in shares.items())
