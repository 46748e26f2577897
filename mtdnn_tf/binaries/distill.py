"""Distils an ensemble of teachers into one student (arXiv 1904.09482).

    mtdnn-distill --config=configs/distill_minilm.yaml --workdir=runs/kd --data_dir=GLUE

The config is a whole recipe, with the sections `teachers` and `student`: the teachers are trained,
chosen and label the data, the student is trained, and a table is written. Or it is an experiment whose
`distillation.teachers` are trained already: then its student is trained.

Such teachers label the training examples first, and their soft targets are kept in a cache (see
`distillation.targets`). With --label_only nothing else is done. The same command goes on where it was
interrupted.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.recipes.distillation_file import Recipe, is_recipe, load_recipe
from mtdnn_tf.validation.yaml_file import read_yaml

if TYPE_CHECKING:
    import tensorflow as tf


def _define_flags() -> None:
    cli.define_path("config", None, "The experiment, a YAML file.", required=True)
    cli.define_path("workdir", None, "The student's run directory.", required=True)
    cli.define_path("data_dir", None, "Folder that the tasks' file names start from.")
    flags.DEFINE_bool("label_only", False, "Write the cache of soft targets and stop.")
    flags.DEFINE_bool("report", True, "Write report.html into the student's directory at the end.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")
    cli.define_strategy_flags(workers=False)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    path = Path(values.config)
    carry_out: Callable[[tf.distribute.Strategy], None]
    if is_recipe(read_yaml(path)):
        if values.label_only:
            raise UserError(f"--label_only: {path} is a whole recipe, which labels by itself")
        carry_out = partial(_recipe, values, load_recipe(path, values.set, values.data_dir))
    else:
        experiment = load_experiment(path, values.set, values.data_dir)
        if not experiment.distillation.teachers:
            raise UserError(f"{path}: distillation.teachers names no teacher")
        carry_out = partial(_student, values, experiment)
    strategy = cli.strategy_of(values)
    carry_out(strategy)
    return 0


def _student(
    values: flags.FlagValues, experiment: Experiment, strategy: "tf.distribute.Strategy"
) -> None:
    """Trains one student, or fills its cache."""
    from mtdnn_tf.distillation.cached_teachers import cache_dir_of
    from mtdnn_tf.distillation.labelling import label
    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.runs.directory import RunDirectory
    from mtdnn_tf.training.loop import train

    if not values.label_only:
        with stop_signals() as stop:
            train(experiment, Path(values.workdir), strategy, stop)
        _report(values, Path(values.workdir))
        return
    cache_dir = cache_dir_of(experiment, RunDirectory(values.workdir))
    with stop_signals() as stop:
        labelled = label(experiment, cache_dir, strategy, stop)
    print(f"{labelled:,} soft targets written to {cache_dir}")


def _recipe(values: flags.FlagValues, recipe: Recipe, strategy: "tf.distribute.Strategy") -> None:
    """Carries out a recipe."""
    from rich.console import Console
    from rich.table import Table

    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.recipes.distillation import RecipeRun
    from mtdnn_tf.recipes.results import HEADER, LEGEND, cells, collect, write_results

    workdir = Path(values.workdir)
    run = RecipeRun(recipe, workdir, strategy)
    with stop_signals() as stop:
        kept = run.run(stop)
    lines = collect(run, kept)
    write_results(lines, workdir)
    table = Table(*HEADER, title=f"{workdir}: dev metrics", title_justify="left", caption=LEGEND)
    for line in lines:
        table.add_row(*cells(line))
    Console().print(table)
    _report(values, run.student(run.seeds[0]), run.single(run.seeds[0]))


def _report(values: flags.FlagValues, run: Path, *others: Path) -> None:
    """Writes the report of a run beside others, if it is wanted."""
    if values.report:
        from mtdnn_tf.reporting.page import write_report

        print(f"report: {write_report(run, others)}")


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
