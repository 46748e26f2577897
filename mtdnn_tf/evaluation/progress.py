"""What a person sees while a run trains."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mtdnn_tf.tasks.metrics import METRICS


def split_title(task: str, split: str) -> str:
    """What a table calls a dev split: the task, and the split where it is not called `dev`."""
    return task if split == "dev" else f"{task} {split.removeprefix('dev_')}"


class TrainingProgress:
    """A progress bar on a terminal; plain lines elsewhere.

    Args:
        total_steps: Steps of the run.
        done: Steps that an earlier process did.
        console: Where to write; by default standard output.
        quiet: Write nothing.
    """

    def __init__(
        self,
        total_steps: int,
        done: int = 0,
        console: Console | None = None,
        quiet: bool = False,
    ) -> None:
        self.console = console or Console(file=sys.stdout, quiet=quiet)
        self._total = total_steps
        self._clock: tuple[int, float] | None = None  # From the first loop, which traces, on.
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._id = self._bar.add_task("training", total=total_steps, completed=done, speed="")
        self._mix = Text()
        self._live = Live(Group(self._mix, self._bar), console=self.console)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(
        self,
        *,
        step: int,
        epoch: int,
        loss: Mapping[str, float],
        examples: Mapping[str, int],
        examples_per_second: float,
        fill: float,
    ) -> None:
        """Shows one loop of steps.

        Args:
            step: Updates done.
            epoch: The epoch under way, from 1.
            loss: Mean loss of each task in the loop.
            examples: Examples of each task in the loop.
            examples_per_second: Speed of the loop.
            fill: Part of the loop's slots that held tokens.
        """
        seen = sum(examples.values())
        mix = " ".join(
            f"{name} {loss[name]:.3f} ({100 * count / seen:.0f}%)"
            for name, count in examples.items()
        )
        speed = f"{examples_per_second:.0f} examples/s, {100 * fill:.1f}% filled"
        self._bar.update(self._id, completed=step, description=f"epoch {epoch}", speed=speed)
        self._mix.plain = mix
        if not self.console.is_terminal:
            self.print(
                f"step {step}/{self._total} epoch {epoch} | {mix} | {speed} | {self._left(step)} left"
            )

    def _left(self, step: int) -> str:
        """The time left as minutes and seconds; `-:--` as long as nothing is known."""
        now = time.monotonic()
        if self._clock is None:
            self._clock = (step, now)
            return "-:--" if step < self._total else "0:00"
        first, start = self._clock
        seconds = int((now - start) / (step - first) * (self._total - step))
        return f"{seconds // 60}:{seconds % 60:02d}"

    def print(self, *content: str | Table) -> None:
        """Prints above the bar."""
        for item in content:
            if isinstance(item, str):
                self.console.print(item, markup=False, highlight=False, soft_wrap=True)
            else:
                self.console.print(item)


class WorkProgress:
    """How many of some examples are done: a bar on a terminal, a line each time elsewhere.

    Args:
        what: What is done with them, and where.
        total: Their number.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, total
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        self._bar = Progress(*columns, TaskProgressColumn(), TimeRemainingColumn())
        self._id = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        if self._bar.console.is_terminal and self._total:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar.live.is_started:  # Else it would print an empty line.
            self._bar.stop()

    def advance(self, examples: int) -> None:
        """Shows that so many more are done."""
        self._done += examples
        self._bar.advance(self._id, examples)
        if not self._bar.console.is_terminal:
            line = f"{self._what} {self._done:,} of {self._total:,}"
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def metrics_table(
    title: str,
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    examples: Mapping[str, Mapping[str, int]],
    beside: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] | None = None,
) -> Table:
    """A table of dev metrics in percent, one line a task, split and metric.

    Args:
        title: Title of the table.
        metrics: Task, split and metric to a fraction.
        examples: Task and split to the number of examples, the column `n`.
        beside: What to compare with: heading of a column to metrics laid out as `metrics`, where a
            task may be missing.
    """
    table = Table(title=title, title_justify="left")
    for name in ("task", "n", "metric", "score"):
        table.add_column(name, justify="right" if name in ("n", "score") else "left")
    for name in beside or {}:
        table.add_column(name, justify="right")
    for task, splits in metrics.items():
        for split, values in splits.items():
            for metric, value in values.items():
                cells = [
                    split_title(task, split),
                    f"{examples[task][split]:,}",
                    METRICS[metric].title,
                ]
                cells.append(f"{100 * value:.1f}")
                for other in (beside or {}).values():
                    there = other.get(task, {}).get(split, {}).get(metric)
                    cells.append("" if there is None else f"{100 * there:.1f}")
                table.add_row(*cells)
    return table
