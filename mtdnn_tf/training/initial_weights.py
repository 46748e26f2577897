"""What a new run starts from: a pretrained encoder, or the encoder and heads of another run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtdnn_tf import pretrained
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.modeling import BertConfig, Pooling, encoder_of, heads_of
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import load
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.saved import load_tokenizer
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

# What makes two heads the same: their outputs mean the same, and their variables are alike.
HEAD_FIELDS = ("kind", "labels", "head", "score_range")


@dataclass(frozen=True)
class Start:
    """A start of a run.

    Attributes:
        config: The encoder's configuration, with the experiment's dropout.
        tokenizer: The tokenizer.
        pooling: What a head sees of an example.
        notes: What was found out rather than given, a line each.
        source: What there is to say of where the encoder came from; see `pretrained.describe_source`.
        fill: Copies the weights into a model of that configuration, and says what was copied.
        licences: The encoder's licence files.
    """

    config: BertConfig
    tokenizer: Tokenizer
    pooling: Pooling
    notes: tuple[str, ...]
    source: Callable[[], dict[str, Any]]
    fill: Callable[[keras.Model], str]
    licences: tuple[Path, ...]


def find_start(experiment: Experiment) -> Start:
    """Finds what an experiment starts from and reads its small files.

    Raises:
        UserError: It is not there or broken, or does not fit the experiment.
    """
    if experiment.init.run is None:
        wanted = experiment.encoder
        return _from_pretrained(experiment, pretrained.resolve(wanted.pretrained, wanted.revision))
    return _from_run(experiment, RunDirectory(experiment.init.run))


def _from_pretrained(experiment: Experiment, folder: Path) -> Start:
    config = _with_dropout(experiment, pretrained.load_config(folder))
    _check_positions(experiment, config, folder)
    _check_segments(experiment, config, folder)
    found = pretrained.read_tokenizer(folder, experiment.encoder.lower_case)
    tokenizer = found.make(**experiment.data.cutting)
    pooling, evidence = experiment.encoder.pooling, "encoder.pooling"
    if pooling == "auto":
        pooling, evidence = pretrained.find_pooling(folder)

    def fill(model: keras.Model) -> str:
        report = pretrained.load_encoder_weights(encoder_of(model), folder)
        return (
            f"encoder from {folder}: {len(report.loaded)} tensors loaded, missing: "
            f"{_names(report.missing)}, unexpected: {_names(report.unexpected)}"
        )

    return Start(
        config,
        tokenizer,
        pooling,
        (*found.notes, f"pooling: {pooling}, from {evidence}"),
        lambda: pretrained.describe_source(
            experiment.encoder.pretrained, folder, pretrained.files_read(folder)
        ),
        fill,
        pretrained.licences(folder),
    )


def _from_run(experiment: Experiment, directory: RunDirectory) -> Start:
    before = directory.read_experiment()
    config = _with_dropout(experiment, pretrained.load_config(directory.encoder))
    _check_positions(experiment, config, directory.path)
    _check_segments(experiment, config, directory.path)
    pooling = before.encoder.settled_pooling
    if experiment.encoder.pooling not in ("auto", pooling):
        raise UserError(
            f"encoder.pooling is {experiment.encoder.pooling}, but {pooling} in the "
            f"run {directory.path} that this one starts from"
        )
    tokenizer = load_tokenizer(directory.path)
    lower_case = tokenizer.settings.get("lower_case")
    if experiment.encoder.lower_case not in (None, lower_case):
        raise UserError(
            f"encoder.lower_case is {experiment.encoder.lower_case}, but {lower_case} in "
            f"the run {directory.path} that this one starts from"
        )
    heads = _heads_taken(experiment, before, directory.path)
    tokenizer = tokenizer.cut_by(**experiment.data.cutting)

    def fill(model: keras.Model) -> str:
        source = load(directory.path, experiment.init.checkpoint)
        _copy(encoder_of(source.model), encoder_of(model), directory.path)
        for name in heads:
            _copy(heads_of(source.model)[name], heads_of(model)[name], directory.path)
        new = [task.name for task in experiment.heads if task.name not in heads]
        left = [task.name for task in before.heads if task.name not in heads]
        return (
            f"encoder from the run {directory.path}; heads taken: {_names(heads)}; "
            f"new: {_names(new)}; left behind: {_names(left)}"
        )

    def source() -> dict[str, Any]:
        file = directory.source_file
        return directory.read_json(file) if file.is_file() else {}

    licences = pretrained.licences(directory.encoder)
    return Start(config, tokenizer, pooling, (), source, fill, licences)


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _with_dropout(experiment: Experiment, config: BertConfig) -> BertConfig:
    """The configuration with the rates that the experiment gives."""
    wanted = experiment.encoder
    rates = {
        "hidden_dropout": wanted.hidden_dropout,
        "attention_dropout": wanted.attention_dropout,
    }
    given = {name: rate for name, rate in rates.items() if rate is not None}
    return config.model_copy(update=given)


def _check_positions(experiment: Experiment, config: BertConfig, path: Path) -> None:
    if experiment.data.max_length > config.max_position_embeddings:
        raise UserError(
            f"data.max_length {experiment.data.max_length} is over the "
            f"{config.max_position_embeddings} positions of the encoder {path}"
        )


def _check_segments(experiment: Experiment, config: BertConfig, path: Path) -> None:
    pairs = [task.name for task in experiment.tasks.values() if len(task.fields) > 1]
    if pairs and config.type_vocab_size < 2:
        raise UserError(
            f"tasks.{pairs[0]} is over two texts, but the encoder {path} knows one segment "
            "(type_vocab_size 1); expected 2"
        )


def _heads_taken(experiment: Experiment, before: Experiment, path: Path) -> list[str]:
    """The tasks whose heads are taken from another run.

    Raises:
        UserError: One that is asked for is not there, or is another task.
    """
    there = {task.name: task for task in before.heads}
    wanted = experiment.init.heads
    if wanted is not None and (missing := [name for name in wanted if name not in there]):
        raise UserError(
            f"init.heads: the run {path} has no head {', '.join(missing)}; it has {', '.join(there)}"
        )
    taken = []
    for task in experiment.heads:
        if task.name in there and (wanted is None or task.name in wanted):
            _check_same_head(task, there[task.name], path)
            taken.append(task.name)
    return taken


def _check_same_head(task: TaskSpec, before: TaskSpec, path: Path) -> None:
    for field in HEAD_FIELDS:
        here, there = getattr(task, field), getattr(before, field)
        if here != there:
            raise UserError(
                f"the head of {task.name} cannot be taken from {path}: its {field} is {there!r} "
                f"there and {here!r} here; leave it out of init.heads to start it anew"
            )


def _copy(source: keras.layers.Layer, target: keras.layers.Layer, path: Path) -> None:
    """Copies the weights of a layer into one of the same name.

    Raises:
        UserError: They are not alike; lists what is missing, unexpected or of another shape.
    """
    values = {variable.path: variable.numpy() for variable in source.weights}
    variables = {variable.path: variable for variable in target.weights}
    faults = [f"missing {name}" for name in variables if name not in values]
    faults += [f"unexpected {name}" for name in values if name not in variables]
    faults += [
        f"{name} is {list(np.shape(values[name]))}, expected {list(variable.shape)}"
        for name, variable in variables.items()
        if name in values and np.shape(values[name]) != tuple(variable.shape)
    ]
    if faults:
        raise UserError(f"cannot start from {path}: {'; '.join(faults[:5])}")
    for name, variable in variables.items():
        variable.assign(values[name])
