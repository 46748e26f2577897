"""What a run left behind, as its report needs it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.data.sources import SplitReader, content_hash
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.prediction_files import DevPredictions, cell, read_predictions
from mtdnn_tf.evaluation.progress import split_title
from mtdnn_tf.experiment.data import DataSettings
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.spec import TaskSpec

WORST = 10  # Errors shown of a split.


@dataclass(frozen=True)
class Split:
    """The predictions of one dev split.

    Attributes:
        task: The task.
        name: The split.
        predictions: What the best checkpoint answered.
        content: Hash of what the examples were read from; None where it is not known.
    """

    task: TaskSpec
    name: str
    predictions: DevPredictions
    content: str | None = None

    @property
    def title(self) -> str:
        """What a table calls it: the task, and the split if it is not called `dev`."""
        return split_title(self.task.name, self.name)

    @property
    def errors(self) -> np.ndarray:
        """[examples] float64, how wrong each answer is, by the task's kind."""
        return self.task.kind.errors(self.predictions)

    def worst(self) -> list[int]:
        """Rows of the worst answers that are not right, the worst first."""
        order = np.argsort(-self.errors, kind="stable")[:WORST]
        return [int(row) for row in order if self.errors[row] > 0]

    def right(self, row: int) -> str:
        """What is right: a label's name, or a score."""
        gold = self.task.kind.gold(self.task, self.predictions.labels[row])
        return gold if isinstance(gold, str) else f"{gold:.2f}"

    def answered(self, row: int) -> str:
        """What was answered."""
        return self.task.kind.described(self.task, self.predictions.predictions[row])


class RunRecord:
    """A run directory that has been trained, wholly or in part.

    Args:
        workdir: The run directory.

    Attributes:
        name: The path that was given.
        experiment: The run's experiment.
        command: The command that began the run; None where it is not known.
        config: The text of `config.yaml`.
        loops: The records of training, in order.
        epochs: The records of dev metrics, in order.
        best: The record of the best checkpoint's dev metrics; None before the first.
        data: Task and split, as in `mood/train`, to what `data.json` says of it.
        splits: The dev splits with predictions.

    Raises:
        UserError: There is no run.
    """

    def __init__(self, workdir: str | Path) -> None:
        directory = self._directory = RunDirectory(workdir)
        self.name = str(workdir)
        self.experiment: Experiment = directory.read_experiment()
        self.command = directory.read_command()
        self.config = directory.config_file.read_text(encoding="utf-8")
        self.loops = directory.metrics.read("train")
        self.epochs = directory.metrics.read("dev")
        self.best: dict[str, Any] | None = directory.best_dev() if self.epochs else None
        data_file = directory.data_file
        self.data: dict[str, Any] = directory.read_json(data_file) if data_file.exists() else {}
        self.splits = list(_splits(directory, self.experiment.heads, self.data))

    def examples(self) -> dict[str, int]:
        """Task to how many examples it was trained on, each as often as it was seen."""
        return {
            task.name: sum(record["examples"].get(task.name, 0) for record in self.loops)
            for task in self.experiment.heads
        }

    def answers(self, task: TaskSpec, split: str) -> DevPredictions:
        """The predictions of a split, with the classes of a task that has its labels in any order.

        Raises:
            UserError: There are none, or not of such labels.
        """
        return read_predictions(_predictions_file(self._directory, task, split), task)

    def texts(self, split: Split, settings: DataSettings) -> Mapping[str, Sequence[str]]:
        """Uid to the texts of a split's worst errors.

        Args:
            split: The split.
            settings: Where the data is.

        Raises:
            UserError: The data is not where it was.
        """
        tfds_dir = Path(settings.tfds_dir) if settings.tfds_dir else None
        data_dir = Path(settings.data_dir or ".")
        content = content_hash(split.task, split.name, data_dir, tfds_dir).hex()
        if split.content not in (None, content):
            raise UserError(f"{split.title}: the data is not that of the run")
        found = split.predictions
        wanted = {found.uids[row] for row in split.worst()}
        labels, texts = {}, {}
        for row in SplitReader(split.task, split.name, data_dir, settings.on_bad_row, tfds_dir):
            uid = cell(row.uid)
            labels[uid] = float(np.float32(row.label))
            if uid in wanted:
                texts[uid] = row.texts
        if [labels.get(uid) for uid in found.uids] != found.labels.tolist():
            raise UserError(f"{split.title}: the data is not that of the run")
        return texts


def _splits(
    directory: RunDirectory, tasks: Sequence[TaskSpec], data: Mapping[str, Any]
) -> Iterator[Split]:
    for task in tasks:
        for name in task.splits_like("dev"):
            path = _predictions_file(directory, task, name)
            if path.exists():
                content = data.get(f"{task.name}/{name}", {}).get("content")
                yield Split(task, name, read_predictions(path, task), content)


def _predictions_file(directory: RunDirectory, task: TaskSpec, split: str) -> Path:
    return directory.predictions / f"{task.name}_{split}.tsv"
