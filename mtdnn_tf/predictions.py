"""Files of predictions, one line an example."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.files import write_atomically
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.training.evaluation import probabilities_of


def prediction_records(
    task: TaskSpec, uids: Iterable[str], logits: np.ndarray, labels: np.ndarray | None = None
) -> Iterator[dict[str, Any]]:
    """Yields an example's `uid`, its answer, and the right one where `labels` are given.

    Args:
        task: The task whose head gave the logits.
        uids: [examples].
        logits: [examples, outputs] float32.
        labels: [examples] class ids or scores.

    Returns:
        `uid`; for classification `label` (a name) and `probabilities` (name to number, in the spec's
        order), for similarity `score`; with labels also `gold`, a name or a score.
    """
    chances = None if task.is_regression else probabilities_of(logits)
    for i, uid in enumerate(uids):
        record: dict[str, Any] = {"uid": str(uid)}
        if chances is None:
            record["score"] = float(logits[i, 0])
        else:
            record["label"] = task.labels[int(logits[i].argmax())]
            record["probabilities"] = dict(zip(task.labels, map(float, chances[i]), strict=True))
        if labels is not None:
            gold = float(labels[i])
            record["gold"] = gold if task.is_regression else task.labels[int(gold)]
        yield record


def format_predictions(records: Iterator[dict[str, Any]], jsonl: bool) -> str:
    """Formats records as JSON lines, or as a TSV with a header and a column for each probability."""
    if jsonl:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    lines: list[str] = []
    for record in records:
        chances = record.pop("probabilities", {})
        row = record | {f"probability_{name}": chance for name, chance in chances.items()}
        if not lines:
            lines.append("\t".join(map(_cell, row)))
        lines.append("\t".join(map(_cell, row.values())))
    return "".join(line + "\n" for line in lines)


def _cell(value: Any) -> str:
    """A TSV cell; as in the files that are read, a `"` is a character and nothing is quoted."""
    return str(value).translate(str.maketrans("\t\r\n", "   "))


def write_predictions(
    path: Path,
    task: TaskSpec,
    uids: Iterable[str],
    logits: np.ndarray,
    labels: np.ndarray | None = None,
) -> None:
    """Writes predictions, whole or not at all; `.jsonl` as JSON lines, else TSV.

    Raises:
        UserError: The file cannot be written.
    """
    records = prediction_records(task, uids, logits, labels)
    write_atomically(path, format_predictions(records, path.suffix == ".jsonl"))
