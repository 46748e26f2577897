"""Files of texts for a task that a model server knows."""

from collections.abc import Sequence

from mtdnn_tf.data.inputs import InputFile, read_inputs
from mtdnn_tf.data.sources import Rows
from mtdnn_tf.tasks.spec import TaskSpec

PLACES = ("sentence1", "sentence2")  # What fields are called that a file has in order, not by name.


def read_texts(task: str, fields: Sequence[str], source: InputFile) -> Rows:
    """Reads the texts of a file for a task.

    Args:
        task: Name of the task.
        fields: The names of its fields, in any order: a server does not say which is the first.
        source: The file; see `mtdnn_tf.data.inputs.read_inputs`.

    Returns:
        The rows, their texts under the task's fields; under those of `PLACES` for a table without a
        header, whose columns are in order.

    Raises:
        UserError: The file is missing or bad.
    """
    in_order = source.header == "false" and not source.columns
    names = PLACES[: len(fields)] if in_order else tuple(fields)
    return read_inputs(
        TaskSpec(
            name=task,
            kind="pair_classification" if len(names) == 2 else "single_classification",
            fields=names,
            labels=("no", "yes"),  # Whatever they are: a file of texts has none.
            metrics=("accuracy",),
            splits={},
        ),
        source,
    )
