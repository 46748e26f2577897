"""Fine-tunes a copy of a multi-task model for each of its tasks, as the MT-DNN paper does.

    mtdnn-finetune --init_from=runs/glue --workdir=runs/glue_finetuned --data_dir=GLUE

Every task gets a run directory of its own below the workdir, with the run's own settings unless a
config or --set says otherwise. The same command goes on where it was interrupted. At its end come
the dev metrics before and after, also in finetune.json. --dry_run builds everything, takes a few steps
for each task and writes nothing.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli


def _define_flags() -> None:
    cli.define_path("init_from", None, "The run to start from.", required=True)
    cli.define_path("workdir", None, "Folder for a run directory a task.")
    cli.define_path("config", None, "An experiment whose tasks and settings are used.")
    cli.define_path("data_dir", None, "Folder that the tasks' file names start from.")
    flags.DEFINE_list("tasks", [], "Tasks to fine-tune for; by default all.")
    flags.DEFINE_bool("dry_run", False, "Build everything, take a few steps, and write nothing.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")
    cli.define_strategy_flags(workers=False)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    cli.check_workdir_or_dry_run(values)
    strategy = cli.strategy_of(values)
    from rich.console import Console

    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.evaluation.progress import metrics_table
    from mtdnn_tf.recipes.finetuning import FineTuning, finetune_experiment

    experiment = finetune_experiment(
        values.init_from,
        Path(values.config) if values.config else None,
        values.set,
        values.data_dir,
    )
    workdir = Path(values.workdir) if values.workdir else None
    tuning = FineTuning(experiment, workdir, values.tasks, strategy)
    if workdir is None:
        for text in tuning.dry_runs():
            print(text)
        return 0
    with stop_signals() as stop:
        report = tuning.run(stop)
    title = f"{workdir}: dev metrics after fine-tuning for each task"
    Console().print(
        metrics_table(title, report.after, report.examples, {"no fine-tuning": report.before})
    )
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
