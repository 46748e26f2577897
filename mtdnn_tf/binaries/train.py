"""Trains one encoder with a named output per task.

    mtdnn-train --config=configs/glue_minilm.yaml --workdir=runs/glue --data_dir=GLUE

The same command goes on where a run was interrupted.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.experiment.file import assignments, load_experiment


def _define_flags() -> None:
    cli.define_path("config", None, "The experiment, a YAML file.", required=True)
    cli.define_path("workdir", None, "The run directory to write to.")
    cli.define_path("data_dir", None, "Folder that the tasks' file names start from.")
    cli.define_strategy_flags()
    cli.define_path("init_from", None, "A run to start from, in place of a pretrained encoder.")
    flags.DEFINE_bool("dry_run", False, "Build everything, take a few steps, and write nothing.")
    flags.DEFINE_bool("report", True, "Write report.html into the run directory at the end.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    cli.check_workdir_or_dry_run(values)
    start = assignments({"init.run": values.init_from} if values.init_from else {})
    experiment = load_experiment(Path(values.config), [*values.set, *start], values.data_dir)
    strategy = cli.strategy_of(values)
    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.distribution.workers import Workers
    from mtdnn_tf.training.dry_run import dry_run
    from mtdnn_tf.training.loop import train

    if values.dry_run:
        print(dry_run(experiment, strategy))
        return 0
    with stop_signals() as stop:
        train(experiment, Path(values.workdir), strategy, stop)
    if values.report and Workers(strategy).is_chief:
        from mtdnn_tf.reporting.page import write_report

        print(f"report: {write_report(values.workdir)}")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
