"""Where the numbers of a run go: the terminal, `metrics.jsonl`, files of predictions."""

import math
from collections.abc import Sequence
from typing import Any

from mtdnn_tf.data.splits import Source
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import DevResult
from mtdnn_tf.evaluation.prediction_files import write_predictions
from mtdnn_tf.evaluation.progress import TrainingProgress, metrics_table
from mtdnn_tf.runs.directory import RunDirectory


class RunLog:
    """Tells the user how a run goes, and writes it down.

    Args:
        directory: The run directory.
        total_steps: Steps of the run.
        done: Steps that an earlier process did.
        writes: Whether this process tells and writes; of several workers, the chief alone.

    Attributes:
        progress: The progress bar; a context manager.
    """

    def __init__(
        self, directory: RunDirectory, total_steps: int, done: int, writes: bool = True
    ) -> None:
        self._directory, self._writes = directory, writes
        self.progress = TrainingProgress(total_steps, done, quiet=not writes)

    def loop(
        self,
        output: dict[str, Any],
        *,
        step: int,
        epoch: int,
        slots: int,
        learning_rate: float,
        seconds: float,
    ) -> None:
        """Logs one loop of steps.

        Args:
            output: What `Trainer.train_loop_end` returns; it is changed to what TensorBoard shows.
            step: Updates done.
            epoch: The epoch under way, from 1.
            slots: Slots of one step.
            learning_rate: Of the loop's last update.
            seconds: How long the loop took.

        Raises:
            UserError: A loss or the gradient is not a finite number, or the disk is full.
        """
        steps = output.pop("steps")
        fill = output.pop("tokens") / (steps * slots)
        loss = {name: float(value) for name, value in output["loss"].items()}
        for name, value in loss.items() | {("the gradient", output["gradient_norm"])}:
            if not math.isfinite(value):
                raise UserError(
                    f"step {step}: {name} has the loss or norm {value}; lower "
                    "training.learning_rate, or set training.clip_norm"
                )
        output |= {
            "learning_rate": learning_rate,
            "gradient_norm": float(output["gradient_norm"]) / steps,
            "fill": fill,
        }
        speed = sum(output["examples"].values()) / seconds
        record = {"kind": "train", "step": step, "epoch": epoch} | output | {"loss": loss}
        if self._writes:
            timing = {"examples_per_second": speed, "seconds": seconds}
            self._directory.metrics.append(record | timing)
        output |= {"examples_per_second": speed}
        self.progress.update(
            step=step,
            epoch=epoch,
            loss=loss,
            examples=output["examples"],
            examples_per_second=speed,
            fill=fill,
        )

    def epoch(self, result: DevResult, *, step: int, epoch: int) -> dict[str, Any]:
        """Logs the dev metrics of an epoch, counted from 1, after `step` updates.

        Returns:
            Their record.

        Raises:
            UserError: The disk is full.
        """
        record = {
            "kind": "dev",
            "step": step,
            "epoch": epoch,
            "metrics": result.metrics,
            "scores": result.scores,
            "mean": result.mean,
        }
        if self._writes:
            self._directory.metrics.append(record)
            title = f"epoch {epoch}: dev metrics, mean {100 * result.mean:.1f}"
            self.progress.print(metrics_table(title, result.metrics, result.examples))
        return record

    def predictions(self, sources: Sequence[Source], result: DevResult) -> None:
        """Writes the dev predictions, a file a task and split.

        Raises:
            UserError: The disk is full.
        """
        if not self._writes:
            return
        for (task, split, store), logits in zip(sources, result.logits, strict=True):
            path = self._directory.predictions / f"{task.name}_{split}.tsv"
            write_predictions(path, task, store, logits)
