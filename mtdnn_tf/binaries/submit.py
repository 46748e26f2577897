"""Writes a submission to the GLUE benchmark, scores what it would be on dev, or checks one.

    mtdnn-submit --workdir=runs/glue --glue_dir=GLUE --output=submission.zip
    mtdnn-submit --saved_model=saved_models/glue --glue_dir=GLUE --dev
    mtdnn-submit --server=localhost:8500 --glue_dir=GLUE --output=submission.zip
    mtdnn-submit --check=submission.zip

Of several runs, --workdir=A,B, each task is answered by the one with the highest dev score for it;
--task_runs=rte=A,mrpc=B says which. All ways give the same file. One that was cut off goes on when
the same command is run again.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from mtdnn_tf.submission.formats import GlueFile
    from mtdnn_tf.submission.models import Models


def _define_flags() -> None:
    cli.define_path("saved_model", None, "An exported model, or one version of it.")
    flags.DEFINE_string("server", None, "A model server: host:port, or http://host:port.")
    flags.DEFINE_string("model", "default", "What the server calls the model.")
    flags.DEFINE_float("timeout", 60.0, "Deadline of a request to the server in seconds.")
    cli.define_paths("workdir", [], "Run directories.")
    flags.DEFINE_list("task_runs", [], "The runs of single tasks: rte=RUN,mrpc=RUN")
    cli.define_path("glue_dir", None, "The folder of GLUE's files.")
    cli.define_path("output", None, "The zip file to write.")
    flags.DEFINE_enum("missing", "error", ["error", "majority"], "For a task without a model.")
    flags.DEFINE_bool("dev", False, "Score what would be submitted on dev.")
    cli.define_path("check", None, "Only check this submission.")
    flags.DEFINE_integer("most_faults", 20, "Faults of a file that --check lists; 0: all.", 0)


class _Shown:
    """A progress bar on a terminal; elsewhere a line for each file that is done."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        self._console = console
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._rows: dict[str, TaskID] = {}

    def advance(self, of_one: "GlueFile", rows: int) -> None:
        name = f"{of_one.name} {of_one.split}"
        if name not in self._rows:
            self._rows[name] = self.bar.add_task(name, total=of_one.rows)
        self.bar.update(self._rows[name], completed=rows)
        if rows == of_one.rows and not self._console.is_terminal:
            self._console.print(f"{name}: {rows:,} rows", highlight=False)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    if values.glue_dir and not Path(values.glue_dir).is_dir():
        raise UserError(f"--glue_dir: expected the folder of GLUE's files, found {values.glue_dir}")
    if values.check:
        glue_dir = Path(values.glue_dir) if values.glue_dir else None
        return _check(Path(values.check), glue_dir, values.most_faults or sys.maxsize)
    _check_flags(values)
    cli.take_memory_from_the_system()
    with _models(values) as models:
        if values.dev:
            _score(models, Path(values.glue_dir))
        return _write(models, values) if values.output else 0


def _check_flags(values: flags.FlagValues) -> None:
    ways = {
        "--saved_model": values.saved_model,
        "--server": values.server,
        "--workdir or --task_runs": values.workdir or values.task_runs,
    }
    given = [name for name, value in ways.items() if value]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UserError(f"expected one of {', '.join(ways)} (or --check); found {found}")
    if not values.glue_dir:
        raise UserError("--glue_dir: expected the folder of GLUE's files")
    if not values.output and not values.dev:
        raise UserError("expected --output=FILE.zip, --dev or both")
    if values.output and (Path(values.output).is_dir() or not Path(values.output).name):
        raise UserError(f"--output: expected a file to write, found the folder {values.output}")


@contextmanager
def _models(values: flags.FlagValues) -> "Iterator[Models]":
    from mtdnn_tf.submission import models

    if values.saved_model:
        with models.of_saved_model(Path(values.saved_model)) as found:
            yield found
    elif values.server:
        with models.of_server(values.server, values.model, values.timeout) as found:
            yield found
    else:
        pairs = [_assignment(text) for text in values.task_runs]
        task_runs = dict(pairs)
        if len(task_runs) < len(pairs):
            raise UserError(f"--task_runs: a task is named twice in {','.join(values.task_runs)}")
        with models.of_runs(values.workdir, task_runs) as found:
            yield found


def _assignment(text: str) -> tuple[str, str]:
    task, equals, workdir = text.partition("=")
    if not (task and equals and workdir):
        raise UserError(f"--task_runs: expected task=RUN, found {text!r}")
    return task, cli.path_of(workdir)


def _score(models: "Models", glue_dir: Path) -> None:
    from rich.console import Console

    from mtdnn_tf.evaluation.progress import metrics_table
    from mtdnn_tf.submission.dev_scores import score_dev

    console = Console()
    shown = _Shown(console)
    with shown.bar:
        scores = score_dev(models, glue_dir, shown.advance)
    title = f"dev: GLUE's average over {len(scores.metrics)} tasks {100 * scores.average:.1f}"
    console.print(metrics_table(title, scores.metrics, scores.examples))
    if scores.left_out:
        left_out = ", ".join(scores.left_out)
        console.print(f"not scored, for want of a model or a dev file: {left_out}", highlight=False)


def _write(models: "Models", values: flags.FlagValues) -> int:
    from rich.console import Console

    from mtdnn_tf.submission.writing import SubmissionWriter, origins, refuse_missing

    glue_dir, output = Path(values.glue_dir), Path(values.output)
    found = origins(models, glue_dir)
    if values.missing == "error":
        refuse_missing(found)
    console = Console()
    shown = _Shown(console)
    with shown.bar:
        SubmissionWriter(output, glue_dir, shown.advance).write(found)
    remarks = {
        one.of_one.name: one.model.name if one.model else f"the majority: {one.why_not}"
        for one in found
    }
    return _check(output, glue_dir, values.most_faults or sys.maxsize, remarks)


def _check(
    path: Path, glue_dir: Path | None, most: int, remarks: dict[str, str] | None = None
) -> int:
    """Shows what is in a submission, and what is wrong with it, at most so many faults a file."""
    from rich.console import Console

    from mtdnn_tf.submission.check import check_submission
    from mtdnn_tf.submission.summary import summary_table

    report = check_submission(path, most)
    Console().print(summary_table(str(path), report, glue_dir, remarks))
    for kind, lines in (("warning", report.warnings), ("fault", report.faults)):
        for line in lines:
            print(f"{kind}: {line}", file=sys.stderr)
    if report.faults:
        faults = f"{report.count:,} fault{'s' if report.count > 1 else ''}"
        raise UserError(f"{path}: GLUE would refuse it for {faults}")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
