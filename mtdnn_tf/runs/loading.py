"""A trained model back from its run directory."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.sources import Rows
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.tokenizing import tokenize_rows
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.prediction import Prediction, check_examples
from mtdnn_tf.evaluation.prediction_files import prediction_records
from mtdnn_tf.evaluation.ragged import Ragged, RaggedModel, RaggedRunner
from mtdnn_tf.experiment.settings import Experiment, Precision
from mtdnn_tf.modeling import build_mtdnn, encoder_of
from mtdnn_tf.pretrained import load_config
from mtdnn_tf.runs.checkpoints import Checkpoints
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.saved import load_tokenizer
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

Texts = Sequence[str] | Sequence[tuple[str, ...]]


class MTDNN:
    """A trained multi-task model, of the distribution strategy in whose scope it is made.

    Attributes:
        model: The Keras model; takes packed batches, returns {task name: logits}.
        ragged: The same model on ragged batches.
        tasks: Task name to its spec.
        tokenizer: The tokenizer it was trained with.
        experiment: The whole configuration of the run.
        checkpoint: Where the run has, or had, these weights; None of several runs.
    """

    def __init__(
        self,
        model: keras.Model,
        experiment: Experiment,
        tokenizer: Tokenizer,
        checkpoint: Path | None = None,
        ragged: Ragged | None = None,
    ) -> None:
        self.model, self.experiment, self.tokenizer = model, experiment, tokenizer
        self.checkpoint, self.ragged = checkpoint, ragged or RaggedModel(model)
        self.tasks: dict[str, TaskSpec] = dict(experiment.tasks)
        strategy, shape = tf.distribute.get_strategy(), evaluation_shape(experiment)
        self.runner = LogitsRunner(model, shape, strategy)
        self._few, self._slots = RaggedRunner(self.ragged, strategy), shape.rows * shape.length
        # Several replicas share packed batches, and a TPU takes no other shapes.
        self._takes_few = strategy.num_replicas_in_sync == 1 and not isinstance(
            strategy, tf.distribute.TPUStrategy
        )
        self._encode, self._lock = functools.cache(tokenizer.encode_in_graph), threading.Lock()

    def task(self, name: str) -> TaskSpec:
        """The spec of a task.

        Raises:
            UserError: The model has no such task.
        """
        if name not in self.tasks:
            raise UserError(f"the model has no task {name!r}{did_you_mean(name, self.tasks)}")
        return self.tasks[name]

    def head(self, name: str) -> TaskSpec:
        """The task whose head answers a task: itself, or the one it is predicted with."""
        task = self.task(name)
        return task if task.predict_with is None else self.task(task.predict_with)

    def logits(self, task: str, store: TokenStore) -> np.ndarray:
        """Runs a task's head over a token store: [examples, outputs] float32, in its order.

        What would not fill one packed batch is run without its empty slots.
        """
        head = self.head(task)
        if self._takes_few and 0 < len(store.token_ids) <= self._slots:
            return self._few.run(head.name, store)
        return self.runner.run([(head, store)])[0]

    def predict(self, task: str, texts: Texts) -> list[Prediction]:
        """Answers a task for sentences, or for pairs of sentences.

        Args:
            task: Name of the task.
            texts: A string an example for a task over one sentence, a pair of strings for a task
                over two. For ranking, pairs with the same first string compete.

        Raises:
            UserError: There is no such task, or the texts are not what the task takes.
        """
        spec = self.task(task)
        check_examples(texts)
        examples = [tuple(t) if isinstance(t, tuple | list) else (t,) for t in texts]
        for example in examples:
            if len(example) != len(spec.fields) or not all(isinstance(t, str) for t in example):
                raise UserError(f"{task} takes {', '.join(spec.fields)}; found {example!r}")
        if not examples:
            return []
        # Half a surrogate pair becomes a question mark, as in the client of a server.
        examples = [
            tuple(t.encode(errors="replace").decode().strip() for t in example)
            for example in examples
        ]
        numbers: dict[str, int] = {}  # Of the queries.
        groups = np.array([numbers.setdefault(e[0], len(numbers)) for e in examples])
        # The candidates of a query go beside each other.
        order = (
            np.argsort(groups, kind="stable") if spec.kind.by_query else np.arange(len(examples))
        )
        rows = Rows(
            texts={f: [examples[n][i] for n in order] for i, f in enumerate(spec.fields)},
            labels=None,
            uids=[str(n) for n in order],
            skipped=0,
            groups=groups[order] if spec.kind.by_query else None,
        )
        with self._lock:  # So that threads make the graph once.
            encode = self._encode(len(spec.fields))
        logits = self.logits(task, tokenize_rows(spec, rows, self.tokenizer, encode))
        records = prediction_records(self.head(task), rows.uids, logits, groups=groups[order])
        names = [field.name for field in fields(Prediction)]
        answers = [Prediction(*(record.get(name) for name in names)) for record in records]
        return [answers[position] for position in np.argsort(order)]


def in_precision(loaded: MTDNN, policy: str) -> MTDNN:
    """A model of the same weights whose encoder computes, and keeps them, otherwise.

    Args:
        loaded: A trained model.
        policy: A Keras policy: `float32`, or `bfloat16`, which halves the encoder's weights.
    """
    encoder = encoder_of(loaded.model)
    model = build_mtdnn(
        encoder.config,
        loaded.experiment.heads,
        pooling=encoder.pooling,
        dtype=policy,
        windows=loaded.experiment.data.windows > 1,
    )
    for variable, trained in zip(model.weights, loaded.model.weights, strict=True):
        variable.assign(keras.ops.cast(trained.value, variable.dtype))
    return MTDNN(model, loaded.experiment, loaded.tokenizer, loaded.checkpoint)


def load(
    workdir: str | Path, checkpoint: str = "best", precision: Precision | None = None
) -> MTDNN:
    """Loads the model of a run directory, which may have been moved since.

    Args:
        workdir: The run directory.
        checkpoint: `best` (by the mean dev score) or `last`.
        precision: What the model computes in; by default what it was trained in.

    Raises:
        UserError: There is no run or no checkpoint, a file is damaged, or the checkpoint's variables
            are not the model's (lists what is missing and unexpected).
    """
    if checkpoint not in ("best", "last"):
        raise UserError(f"checkpoint: expected best or last, found {checkpoint!r}")
    directory = RunDirectory(workdir)
    experiment = directory.read_experiment()
    config = load_config(directory.encoder)
    tokenizer = load_tokenizer(directory.path)
    model = build_mtdnn(
        config,
        experiment.heads,
        pooling=experiment.encoder.settled_pooling,
        dtype=precision or experiment.training.precision,
        windows=experiment.data.windows > 1,
    )
    path = Checkpoints(directory.checkpoints, model).restore_model(checkpoint)
    if directory.is_in_use:
        logging.warning(
            "%s is in use by another process: this is its %s checkpoint so far, %s",
            directory.path,
            checkpoint,
            path.name,
        )
    return MTDNN(model, experiment, tokenizer, path)
