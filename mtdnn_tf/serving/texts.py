"""Files of texts for a task that a model server knows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtdnn_tf.data.inputs import has_names, read_inputs
from mtdnn_tf.serving.client import MIXED, Client, Tensors
from mtdnn_tf.tasks.spec import TaskSpec


def read_texts(client: Client, task: str, path: Path) -> tuple[Sequence[str], str, Tensors]:
    """Reads the texts of a file for a task, whose fields the server knows.

    Args:
        client: Asks the server.
        task: Name of the task.
        path: A TSV or JSONL file; see `mtdnn_tf.data.inputs.read_inputs`.

    Returns:
        Names of the rows, the signature that takes them, and its inputs.

    Raises:
        ServingError: The model has no such task, or the server does not answer.
        UserError: The file is missing or bad.
    """
    names = client.fields_of(task)
    # The server does not say in which order the fields are: without names, places count.
    by_name = has_names(path, names)
    fields = names if by_name else ["sentence1", "sentence2"][: len(names)]
    kind = "pair_classification" if len(fields) == 2 else "single_classification"
    rows = read_inputs(
        TaskSpec(
            name=task,
            kind=kind,
            fields=tuple(fields),
            labels=("no", "yes"),  # Whatever they are: a file of texts has none.
            metrics=("accuracy",),
            splits={},
        ),
        path,
    )
    columns = {
        name: np.array([text.encode() for text in texts], object)
        for name, texts in rows.texts.items()
    }
    if by_name:
        return rows.uids, task, columns
    count = len(rows.uids)
    columns.setdefault("sentence2", np.full(count, b"", object))
    return rows.uids, MIXED, {"task": np.full(count, task.encode(), object), **columns}
