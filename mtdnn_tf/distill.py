"""Trains a student on the soft targets of trained teachers (arXiv 1904.09482).

    python -m mtdnn_tf.distill --config=configs/distill_glue.yaml --workdir=runs/student --data_dir=GLUE

With --label_only the teachers label the training examples, whose soft targets are kept in the cache
for `distillation.targets: cached`; nothing is trained. The same command goes on where it was
interrupted.
"""

import sys
from pathlib import Path

from absl import flags

from mtdnn_tf import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment_file import load_experiment


def _define_flags() -> None:
    flags.DEFINE_string("config", None, "The experiment, a YAML file.", required=True)
    flags.DEFINE_string("workdir", None, "The student's run directory.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder that the tasks' file names start from.")
    flags.DEFINE_bool("label_only", False, "Write the cache of soft targets and stop.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")
    cli.define_strategy_flags(workers=False)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    experiment = load_experiment(Path(values.config), values.set, values.data_dir)
    if not experiment.distillation.teachers:
        raise UserError(f"{values.config}: distillation.teachers names no teacher")
    strategy = cli.strategy_of(values)
    from mtdnn_tf.distillation.labelling import label
    from mtdnn_tf.distillation.teaching import cache_dir_of
    from mtdnn_tf.run_directory import RunDirectory
    from mtdnn_tf.training.signals import Interrupted
    from mtdnn_tf.training.training import train

    if values.label_only:
        cache_dir = cache_dir_of(experiment, RunDirectory(values.workdir))
        print(f"{label(experiment, cache_dir, strategy):,} soft targets written to {cache_dir}")
        return 0
    try:
        train(experiment, Path(values.workdir), strategy)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
