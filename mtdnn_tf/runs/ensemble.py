"""Several trained models as one frozen Keras model with the same named outputs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.averaged_logits import averaged_logits
from mtdnn_tf.evaluation.ragged import Features, RaggedModel
from mtdnn_tf.experiment.data import CUTTING
from mtdnn_tf.experiment.settings import Precision
from mtdnn_tf.modeling import input_shapes
from mtdnn_tf.runs.loading import MTDNN, load
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

# What two tasks of the same name must share for their predictions to be averaged.
SHARED_FIELDS = ("kind", "score_range", "ranking")


@dataclass(frozen=True)
class Member:
    """A model that takes part in an ensemble.

    Attributes:
        model: A packed model from `build_mtdnn`.
        tasks: The specs of its heads, by name.
        name: What messages call it, such as its run directory.
    """

    model: keras.Model
    tasks: Mapping[str, TaskSpec]
    name: str


class FrozenModel(keras.layers.Layer):
    """A model in inference mode, whatever mode it is called in, with nothing to train.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.trainable = False

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the model has its weights."""

    def call(self, inputs: dict[str, KerasTensor]) -> dict[str, KerasTensor]:
        """Returns the model's outputs."""
        return self.model(inputs, training=False)


class AveragedLogits(keras.layers.Layer):
    """`averaged_logits` as a layer.

    Args:
        task: The task.
        temperature: The temperature at which probabilities are averaged.
        columns: For each member, which of its outputs is that of each label.
        of_logits: Whether logits are averaged, not probabilities.
        calibration: For each member the temperature of its own probabilities; 1 by default.
    """

    def __init__(
        self,
        task: TaskSpec,
        temperature: float,
        columns: Sequence[Sequence[int]],
        of_logits: bool = False,
        calibration: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task, self.temperature, self.of_logits = task, temperature, of_logits
        self.calibration = None if calibration is None else list(calibration)
        self.columns = [tuple(of_member) for of_member in columns]

    def call(self, members: list[KerasTensor], group: KerasTensor | None = None) -> KerasTensor:
        """Returns [examples, outputs] float32 for the outputs of each member's head."""
        in_order = [
            tf.gather(logits, columns, axis=1)
            for logits, columns in zip(members, self.columns, strict=True)
        ]
        return averaged_logits(
            self.task,
            in_order,
            group,
            self.temperature,
            of_logits=self.of_logits,
            calibration=self.calibration,
        )


def build_ensemble(
    members: Sequence[Member],
    tasks: Mapping[str, TaskSpec],
    teachers: Mapping[str, Sequence[int]] | None = None,
    temperatures: Mapping[str, float] | None = None,
    of_logits: Collection[str] = (),
    calibration: Mapping[str, Sequence[float]] | None = None,
) -> keras.Model:
    """Builds the ensemble of some models: one frozen model that runs each of them once.

    Its inputs are those of its members, and `group` where a ranking task's probabilities are
    averaged, which then needs a query's candidates in one batch; its output is a
    dict `{task name: logits}`, which say the mean of the members' class probabilities, of their
    scores, or of a query's candidates' probabilities (see `averaged_logits`).

    Args:
        members: The models.
        tasks: The tasks of the ensemble by name; they name the order of the labels.
        teachers: Task name to the positions of the members that are asked; by default all that have
            such a head.
        temperatures: Task name to the temperature at which probabilities are averaged; 1 by default.
        of_logits: Tasks whose members' logits are averaged themselves.
        calibration: Task name to the temperature of each member that is asked; 1 by default.

    Raises:
        UserError: A member lacks a task that it is asked for, or has other labels.
    """
    if teachers is None:
        teachers = {
            name: [i for i, member in enumerate(members) if name in member.tasks] for name in tasks
        }
    columns = {
        name: [label_columns(tasks[name], members[i].tasks, members[i].name) for i in positions]
        for name, positions in teachers.items()
    }
    shapes = input_shapes("packed", windows="windows" in members[0].model.input)
    inputs = {
        name: keras.Input(batch_shape=shape, dtype="int32", name=name)
        for name, shape in shapes.items()
    }
    asked = sorted({i for positions in teachers.values() for i in positions})
    answers = {i: FrozenModel(members[i].model, name=f"member_{i}")(inputs) for i in asked}
    if any(tasks[name].kind.by_query and name not in of_logits for name in teachers):
        inputs["group"] = keras.Input(batch_shape=(None,), dtype="int32", name="group")
    outputs = {
        name: AveragedLogits(
            tasks[name],
            (temperatures or {}).get(name, 1.0),
            columns[name],
            name in of_logits,
            (calibration or {}).get(name),
            name=f"average_{name}",
        )([answers[i][name] for i in positions], group=inputs.get("group"))
        for name, positions in teachers.items()
    }
    return keras.Model(inputs, outputs, name="ensemble", trainable=False)


class RaggedEnsemble:
    """An ensemble on ragged batches.

    Args:
        model: From `build_ensemble`, where all members that have a task are asked.
        members: Its members.
    """

    def __init__(self, model: keras.Model, members: Sequence[Member]) -> None:
        self._model = model
        self._members = [(RaggedModel(member.model), member.tasks) for member in members]
        self.has_windows = self._members[0][0].has_windows

    def logits(self, heads: Sequence[str], features: Features) -> Features:
        """See `mtdnn_tf.evaluation.ragged.Ragged`."""
        asked = [(model, [n for n in heads if n in tasks]) for model, tasks in self._members]
        answers = [model.logits(names, features) for model, names in asked if names]
        return {
            name: self._model.get_layer(f"average_{name}")(
                [of_member[name] for of_member in answers if name in of_member],
                group=features["group"],
            )
            for name in heads
        }


def label_columns(task: TaskSpec, tasks: Mapping[str, TaskSpec], name: str) -> list[int]:
    """Which output of a member's head is that of each of a task's labels.

    Args:
        task: The task.
        tasks: The specs of the member's heads, by name.
        name: What messages call the member.

    Raises:
        UserError: The member has no such task, or one that is not the same.
    """
    if task.name not in tasks:
        raise UserError(f"{name} has no task {task.name!r}; it has {', '.join(tasks)}")
    there = tasks[task.name]
    for field in (*SHARED_FIELDS, *(["labels"] if not task.kind.has_classes else [])):
        if getattr(there, field) != getattr(task, field):
            raise UserError(
                f"{task.name} is not the same task in {name}: its {field} is "
                f"{getattr(there, field)!r} there and {getattr(task, field)!r} here"
            )
    if lacking := [label for label in task.labels if label not in there.labels]:
        raise UserError(
            f"{name} cannot answer {task.name}: it lacks the label {lacking[0]!r}; it has "
            f"{', '.join(there.labels)}"
        )
    if extra := [label for label in there.labels if label not in task.labels]:
        raise UserError(
            f"{name} cannot answer {task.name}: its label {extra[0]!r} is not one of "
            f"{', '.join(task.labels)}"
        )
    return task.kind.outputs_of(task, there.labels)


def load_member(
    workdir: str | Path, checkpoint: str = "best", precision: Precision | None = None
) -> tuple[Member, MTDNN]:
    """Loads a run as a member of an ensemble.

    Raises:
        UserError: See `load`.
    """
    loaded = load(workdir, checkpoint, precision)
    tasks = {task.name: task for task in loaded.experiment.heads}
    return Member(loaded.model, tasks, str(workdir)), loaded


def load_ensemble(
    workdirs: Sequence[str | Path], checkpoint: str = "best", precision: Precision | None = None
) -> MTDNN:
    """Loads several runs as one model, whose prediction is their average.

    A task is answered by the runs that have it. The first run's data settings and, for a task that
    several have, the first one's order of labels are those of the ensemble.

    Args:
        workdirs: The run directories; one is `load`.
        checkpoint: `best` or `last`.
        precision: What they compute in; by default each what it was trained in.

    Raises:
        UserError: See `load`; a run is named twice, two have another vocabulary, or a task is not the
            same in two of them.
    """
    if len(workdirs) == 1:
        return load(workdirs[0], checkpoint, precision)
    if len(set(map(str, workdirs))) < len(workdirs):
        raise UserError(f"an ensemble of {', '.join(map(str, workdirs))} has a run twice")
    loaded = [load_member(path, checkpoint, precision) for path in workdirs]
    members, runs = zip(*loaded, strict=True)
    first = runs[0]
    for member, run in zip(members, runs, strict=True):
        check_same_tokens(member.name, run.tokenizer, members[0].name, first.tokenizer)
    tasks: dict[str, TaskSpec] = {}
    for run in runs:
        tasks = dict(run.experiment.tasks) | tasks
    heads = {name: task for name, task in tasks.items() if task.has_head}
    experiment = first.experiment.model_copy(update={"tasks": tasks})
    model = build_ensemble(members, heads)
    return MTDNN(model, experiment, first.tokenizer, ragged=RaggedEnsemble(model, members))


def check_same_tokens(name: str, here: Tokenizer, other_name: str, there: Tokenizer) -> None:
    """Checks that two runs see a text as the same word pieces.

    Raises:
        UserError: They don't.
    """
    ours, theirs = here.settings, there.settings
    differ = [key for key in ours if ours[key] != theirs.get(key)]
    if (here.name, here.vocab) != (there.name, there.vocab) or set(differ) - set(CUTTING):
        reason = "another vocabulary"
    elif differ:
        key = differ[0]
        reason = f"data.{key} {ours[key]}, not {theirs[key]}, and so other batches"
    else:
        return
    raise UserError(
        f"{name} has {reason} than {other_name}: they cannot read the same batch; to teach, each "
        "can label by itself (distillation.targets: auto)"
    )
