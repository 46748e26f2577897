"""Trains one encoder with a named output per task.

    python -m mtdnn_tf.train --config=configs/glue_minilm.yaml --workdir=runs/glue --data_dir=GLUE

The same command goes on where a run was interrupted.
"""

import sys
from pathlib import Path

from absl import flags

from mtdnn_tf import cli
from mtdnn_tf.config import load_experiment


def _define_flags() -> None:
    flags.DEFINE_string("config", None, "The experiment, a YAML file.", required=True)
    flags.DEFINE_string("workdir", None, "The run directory to write to.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder that the tasks' file names start from.")
    cli.define_strategy_flags()
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    experiment = load_experiment(Path(values.config), values.set, values.data_dir)
    strategy = cli.strategy_of(values)
    from mtdnn_tf.training.signals import Interrupted
    from mtdnn_tf.training.training import train

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
