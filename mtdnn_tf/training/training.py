"""A training run, from an experiment to a run directory.

The same call goes on where an earlier one was cut off, bit for bit as if it had never been.
"""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import orbit
import tensorflow as tf
from absl import logging

from mtdnn_tf.config import Experiment, TrainingSettings
from mtdnn_tf.data.pipeline import BatchShape, as_dataset
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.splits import open_run_data
from mtdnn_tf.data.tokenizer import BertTokenizer
from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, build_mtdnn
from mtdnn_tf.predictions import write_predictions
from mtdnn_tf.pretrained import huggingface
from mtdnn_tf.pretrained.resolver import resolve
from mtdnn_tf.run_directory import RunDirectory, write_atomically
from mtdnn_tf.training.checkpoint import Checkpoints
from mtdnn_tf.training.evaluation import DevResult, LogitsRunner, evaluate
from mtdnn_tf.training.optimizer import build_optimizer, learning_rate_schedule
from mtdnn_tf.training.progress import TrainingProgress, metrics_table
from mtdnn_tf.training.trainer import Trainer


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came, and the state was saved.

    Attributes:
        exit_code: What a shell expects of a process that a signal ended.
    """

    def __init__(self, came: signal.Signals, saved: str) -> None:
        super().__init__(f"{came.name}: {saved}; the same command goes on from there")
        self.exit_code = 128 + came


def train(experiment: Experiment, workdir: Path) -> None:
    """Trains, or goes on training, in a run directory.

    Args:
        experiment: What to train.
        workdir: The run directory. Where it holds a run of the same experiment, that run goes on
            from its last checkpoint.

    Raises:
        UserError: Something the user gave is wrong, or the disk is full.
        Interrupted: SIGTERM or Ctrl-C came, and the state was saved.
    """
    directory = RunDirectory(workdir)
    with directory.locked():
        TrainingRun(experiment, directory).run()


class TrainingRun:
    """Everything that a run holds in memory, restored from the last checkpoint if there is one.

    Args:
        experiment: What to train.
        directory: Where; locked by the caller.

    Attributes:
        plan: All batches of the run.
    """

    def __init__(self, experiment: Experiment, directory: RunDirectory) -> None:
        self._experiment, self._directory = experiment, directory
        self._settings = settings = experiment.training
        seed_everything(settings)
        is_new = not directory.exists
        if is_new:
            pretrained = resolve(experiment.encoder.pretrained)
            config, tokenizer = _read_pretrained(experiment, pretrained)
        else:
            directory.check_same(experiment)
            config = BertConfig.from_hf_dict(directory.read_json(directory.encoder_file))
            tokenizer = BertTokenizer.load(directory.path)
        self._data = open_run_data(experiment.heads, experiment.data, tokenizer)
        self._strategy = tf.distribute.get_strategy()
        self.plan = TrainingPlan(experiment, self._data.train, self._strategy.num_replicas_in_sync)
        with self._strategy.scope():
            self._model = build_mtdnn(
                config,
                experiment.heads,
                pooling=experiment.encoder.pooling,
                dtype=settings.precision,
            )
            self._schedule = learning_rate_schedule(settings, self.plan.total_steps)
            self._optimizer = build_optimizer(settings, self._schedule)
            self._optimizer.build(self._model.trainable_variables)
            self._state = {
                "step": _counter(tf.int64, 0),
                "epochs_evaluated": _counter(tf.int64, 0),
                "best_score": _counter(tf.float64, -1e9),
                "best_step": _counter(tf.int64, -1),
            }
        self._checkpoints = Checkpoints(
            directory.checkpoints,
            self._model,
            self._optimizer,
            self._state,
            settings.keep_checkpoints,
        )
        if is_new:
            report = huggingface.load_encoder_weights(self._model.get_layer("encoder"), pretrained)
            logging.info(
                "encoder from %s: %d tensors loaded, missing: %s, unexpected: %s",
                pretrained,
                len(report.loaded),
                ", ".join(report.missing) or "none",
                ", ".join(report.unexpected) or "none",
            )
            self._begin(config, tokenizer)
        else:
            self._resume()

    def _begin(self, config: BertConfig, tokenizer: BertTokenizer) -> None:
        directory = self._directory
        write_atomically(directory.encoder_file, json.dumps(config.to_hf_dict(), indent=2))
        tokenizer.save(directory.path)
        write_atomically(directory.data_file, json.dumps(self._data.summary(), indent=2))
        self._checkpoints.save(0)
        directory.write_experiment(self._experiment)

    def _resume(self) -> None:
        directory = self._directory
        before = directory.read_json(directory.data_file)
        for name, now in self._data.summary().items():
            if before.get(name) != now:
                raise UserError(
                    f"the examples of {name} are not those that the run in {directory.path} began "
                    "with; choose another --workdir"
                )
        self._checkpoints.restore()
        directory.rewind_metrics(self._get("step"), self._get("epochs_evaluated"))

    def _get(self, name: str) -> int:
        return int(self._state[name].numpy())

    def trainer(self) -> Trainer:
        """A trainer that goes on from the restored step."""
        plan, first = self.plan, self._get("step")
        dataset = self._strategy.distribute_datasets_from_function(
            lambda _: as_dataset(lambda: plan.batches(first), plan.shape)
        )
        return Trainer(
            model=self._model,
            tasks=self._experiment.heads,
            optimizer=self._optimizer,
            step=self._state["step"],
            dataset=dataset,
            strategy=self._strategy,
            clip_norm=self._settings.clip_norm,
            xla=uses_xla(self._settings),
        )

    def run(self) -> None:
        """Trains to the end.

        Raises:
            UserError: The disk is full.
            Interrupted: SIGTERM or Ctrl-C came, and the state was saved.
        """
        plan, settings, strategy = self.plan, self._settings, self._strategy
        first = self._get("step")
        eval_rows = -(-self._experiment.batch.eval_rows // strategy.num_replicas_in_sync)
        self._runner = LogitsRunner(self._model, BatchShape(eval_rows, plan.shape.length), strategy)
        self._progress = TrainingProgress(plan.total_steps, first)
        self._describe(first)
        self._controller = orbit.Controller(
            trainer=self.trainer(),
            strategy=strategy,
            global_step=self._state["step"],
            steps_per_loop=settings.steps_per_loop,
            summary_dir=str(self._directory.events),
            train_actions=[self._log_loop],
        )
        with self._progress, _stop_signals() as stop:
            while (epoch := self._get("epochs_evaluated")) < settings.epochs:
                step, end_of_epoch = self._get("step"), int(plan.epoch_ends[epoch])
                if step == end_of_epoch:
                    self._end_epoch(epoch)
                else:
                    self._train_loop(step, min(step + settings.steps_per_loop, end_of_epoch))
                if stop:
                    self._checkpoints.save(self._get("step"))
                    where = f"step {self._get('step')} of {plan.total_steps}"
                    raise Interrupted(stop[0], f"saved at {where} in {self._directory.path}")

    def _describe(self, first: int) -> None:
        plan = self.plan
        sizes = ", ".join(f"{name} {len(store):,}" for name, store in plan.stores.items())
        self._progress.print(
            f"{len(plan.stores)} tasks, {sizes} training examples; {self._settings.epochs} epochs, "
            f"{plan.total_steps} steps of {plan.shape.rows * plan.replicas} rows of "
            f"{plan.shape.length} slots"
        )
        if first == plan.total_steps and self._get("epochs_evaluated") == self._settings.epochs:
            self._progress.print(f"{self._directory.path} is trained already")
        elif first:
            self._progress.print(f"going on from step {first}")

    def _train_loop(self, step: int, end: int) -> None:
        self._loop_start = time.monotonic()
        with contextlib.redirect_stdout(None):  # Orbit prints a line a loop; the bar is ours.
            self._controller.train(end, checkpoint_at_completion=False)
        every = self._settings.checkpoint_every_steps
        if end // every > step // every:
            self._checkpoints.save(end)

    def _log_loop(self, output: dict[str, Any]) -> None:
        """Logs one loop of steps; called by the controller, which adds `output` to TensorBoard."""
        step = self._get("step")
        epoch = self.plan.epoch_of(step - 1) + 1
        steps = output.pop("steps")
        slots = steps * self.plan.shape.rows * self.plan.replicas * self.plan.shape.length
        fill = output.pop("tokens") / slots
        seconds = time.monotonic() - self._loop_start
        examples = output["examples"]
        speed = sum(examples.values()) / seconds
        loss = {name: float(value) for name, value in output["loss"].items()}
        output |= {
            "learning_rate": float(self._schedule(step - 1)),
            "gradient_norm": float(output["gradient_norm"]) / steps,
            "fill": fill,
        }
        record = {"kind": "train", "step": step, "epoch": epoch} | output
        timing = {"examples_per_second": speed, "seconds": seconds}
        self._directory.append_metrics(record | {"loss": loss} | timing)
        output |= {"examples_per_second": speed}
        self._progress.update(
            step=step,
            epoch=epoch,
            loss=loss,
            examples=examples,
            examples_per_second=speed,
            fill=fill,
        )

    def _end_epoch(self, epoch: int) -> None:
        """Evaluates, logs, and saves the best and the last checkpoint, in this order.

        Killed anywhere in between, the next process does it again from the same state.
        """
        step = self._get("step")
        score = float(epoch)  # Without dev splits the last epoch is the best.
        if self._data.dev:
            result = evaluate(self._runner, self._data.dev)
            score = result.mean
            self._report(epoch, result)
        if score > self._state["best_score"].numpy():
            self._state["best_score"].assign(score)
            self._state["best_step"].assign(step)
            self._checkpoints.save_best(step)
            if self._data.dev:
                for (task, split, store), logits in zip(self._data.dev, result.logits, strict=True):
                    path = self._directory.predictions / f"{task.name}_{split}.tsv"
                    write_predictions(path, task, store.uids, logits, store.labels)
        self._state["epochs_evaluated"].assign(epoch + 1)
        self._checkpoints.save(step)

    def _report(self, epoch: int, result: DevResult) -> None:
        self._directory.append_metrics(
            {
                "kind": "dev",
                "step": self._get("step"),
                "epoch": epoch + 1,
                "metrics": result.metrics,
                "scores": result.scores,
                "mean": result.mean,
            }
        )
        self._controller.summary_manager.write_summaries(
            {"dev": result.metrics | {"mean": result.mean}}
        )
        self._controller.summary_manager.flush()
        title = f"epoch {epoch + 1}: dev metrics, mean {100 * result.mean:.1f}"
        self._progress.print(metrics_table(title, result.metrics, result.examples))


def _read_pretrained(experiment: Experiment, folder: Path) -> tuple[BertConfig, BertTokenizer]:
    config = huggingface.load_config(folder)
    wanted = experiment.encoder
    rates = {
        "hidden_dropout": wanted.hidden_dropout,
        "attention_dropout": wanted.attention_dropout,
    }
    given = {name: rate for name, rate in rates.items() if rate is not None}
    config = config.model_copy(update=given)
    if experiment.data.max_length > config.max_position_embeddings:
        raise UserError(
            f"data.max_length {experiment.data.max_length} is over the "
            f"{config.max_position_embeddings} positions of the encoder {folder}"
        )
    huggingface.check_vocab(folder)
    lower_case = wanted.lower_case
    if lower_case is None:
        lower_case = huggingface.lower_case(folder)
    tokenizer = BertTokenizer.from_file(
        folder / "vocab.txt", lower_case=lower_case, max_length=experiment.data.max_length
    )
    return config, tokenizer


def _counter(dtype: tf.DType, value: float) -> tf.Variable:
    return tf.Variable(
        tf.constant(value, dtype),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def seed_everything(settings: TrainingSettings) -> None:
    """Seeds new variables and dropout, and asks for deterministic kernels."""
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()


def uses_xla(settings: TrainingSettings) -> bool:
    """Whether the step is compiled; `auto` is on where there is a GPU or a TPU.

    On CPU the oneDNN graph is faster than XLA.
    """
    if settings.xla == "auto":
        return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))
    return settings.xla == "on"


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C stops at once."""
    came: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
