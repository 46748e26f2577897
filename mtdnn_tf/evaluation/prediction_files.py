"""Files of predictions, one line an example."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.tasks.kinds.kind import Answered
from mtdnn_tf.tasks.spec import TaskSpec


def prediction_records(
    task: TaskSpec,
    uids: Iterable[str],
    logits: np.ndarray,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields an example's `uid`, its answer, and the right one where `labels` are given.

    Args:
        task: The task whose head gave the logits.
        uids: [examples].
        logits: [examples, outputs] float32.
        labels: [examples] class ids or scores.
        groups: [examples] the query of each candidate; needed for ranking.

    Returns:
        `uid`; for classification `label` (a name) and `probabilities` (name to number, in the spec's
        order), for similarity `score`, for ranking `score`, `query` (a number), `rank` (from 1) and
        `probability` among the query's candidates; with labels also `gold`, a name or a score.
    """
    columns = task.kind.columns(task, logits, groups)
    for i, uid in enumerate(uids):
        record: dict[str, Any] = {"uid": str(uid)}
        record |= {name: values[i] for name, values in columns.items()}
        if labels is not None:
            record["gold"] = task.kind.gold(task, float(labels[i]))
        yield record


def format_predictions(records: Iterator[dict[str, Any]], jsonl: bool) -> str:
    """Formats records as JSON lines, or as a TSV with a header and a column for each probability.

    Probabilities have six digits: the seventh of float32 is another in another batch. Scores are whole,
    since the order of near ones is what some metrics are of.
    """
    rounded = map(_rounded, records)
    if jsonl:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in rounded)
    lines: list[str] = []
    for record in rounded:
        chances = record.pop("probabilities", {})
        row = record | {f"probability_{name}": chance for name, chance in chances.items()}
        if not lines:
            lines.append("\t".join(map(cell, row)))
        lines.append("\t".join(map(cell, row.values())))
    return "".join(line + "\n" for line in lines)


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the digits of probabilities that are written."""
    chances = record.get("probabilities")
    if not chances:
        return record
    return record | {"probabilities": {name: float(f"{p:.6g}") for name, p in chances.items()}}


def deliver(records: Iterator[dict[str, Any]], output: str) -> None:
    """Writes records where an `--output` flag says.

    Args:
        records: See `format_predictions`.
        output: `FILE.jsonl` or another file, which is a TSV; `-` is a TSV on standard output, in
            UTF-8 like the files, whatever the terminal shows.

    Raises:
        UserError: The file cannot be written.
    """
    text = format_predictions(records, output.endswith(".jsonl"))
    if output == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    else:
        write_atomically(Path(output), text)


def cell(value: Any) -> str:
    """A TSV cell; as in the files that are read, a `"` is a character and nothing is quoted."""
    return str(value).translate(str.maketrans("\t\r\n", "   "))


def write_predictions(path: Path, task: TaskSpec, store: TokenStore, logits: np.ndarray) -> None:
    """Writes the predictions of a split, whole or not at all; `.jsonl` as JSON lines, else TSV.

    Raises:
        UserError: The file cannot be written.
    """
    records = prediction_records(task, store.uids, logits, store.labels, store.groups)
    write_atomically(path, format_predictions(records, path.suffix == ".jsonl"))


@dataclass(frozen=True)
class DevPredictions(Answered):
    """What a file of dev predictions says, as the metrics take it.

    Attributes:
        uids: [examples] what the examples are called.
    """

    labels: np.ndarray
    predictions: np.ndarray
    groups: np.ndarray | None = None
    uids: Sequence[str] = ()
    probabilities: np.ndarray | None = None


def read_predictions(path: Path, task: TaskSpec) -> DevPredictions:
    """Reads back a TSV file that `write_predictions` wrote for a split with labels.

    Raises:
        UserError: It is missing, or not of this task.
    """
    try:
        with path.open(
            encoding="utf-8", newline="\n"
        ) as file:  # Other ends of lines are characters.
            header, *lines = file.read().removesuffix("\n").split("\n")
        cells = zip(*(line.split("\t") for line in lines), strict=True)
        columns = dict(zip(header.split("\t"), cells, strict=True))
        return DevPredictions(**task.kind.read(task, columns), uids=columns["uid"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the predictions of {task.name} in {path}: {error}") from error
