"""Compares how few examples a task needs from a multi-task run and from the plain encoder.

    mtdnn-adapt --config=configs/snli_adaptation.yaml --init_from=runs/mtdnn \
        --counts=549,5493 --samplings=3 --workdir=runs/snli_adaptation --data_dir=DATA

Writes results.json, the table results.md, which it prints as well, and the picture curves.png. Every
training has a run directory of its own below the workdir: the same command goes on where it was
interrupted.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import Subset
from mtdnn_tf.experiment.file import load_experiment


def _define_flags() -> None:
    cli.define_path("config", None, "The experiment of the task, a YAML file.", required=True)
    cli.define_path("init_from", None, "The multi-task run.", required=True)
    cli.define_path("workdir", None, "Folder for the runs and results.", required=True)
    cli.define_path("data_dir", None, "Folder that the task's file names start from.")
    flags.DEFINE_list("fractions", [], "Parts of the training examples: 0.001,0.01,0.1,1")
    flags.DEFINE_list("counts", [], "Or numbers of them: 549,5493")
    flags.DEFINE_integer("samplings", 5, "Samplings of each size.", lower_bound=1)
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")
    cli.define_strategy_flags(workers=False)


def _sizes(values: flags.FlagValues) -> list[Subset]:
    """The parts that the flags ask for, small ones first."""
    if bool(values.fractions) == bool(values.counts):
        raise UserError("give --fractions or --counts, one of them")
    name, kind = ("count", int) if values.counts else ("fraction", float)
    sizes = []
    for text in values.counts or values.fractions:
        try:
            sizes.append((kind(text), Subset(**{name: kind(text)})))
        except ValueError:
            raise UserError(
                f"--{name}s: {text!r} is not a {name}; expected "
                f"{'a whole number from 1' if name == 'count' else 'above 0 and at most 1'}"
            ) from None
    return [subset for _, subset in sorted(sizes, key=lambda size: size[0])]


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    experiment = load_experiment(Path(values.config), values.set, values.data_dir)
    sizes = _sizes(values)
    strategy = cli.strategy_of(values)
    from rich.console import Console
    from rich.table import Table

    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.recipes.domain_adaptation import DomainAdaptation, table

    adaptation = DomainAdaptation(
        experiment, values.init_from, sizes, values.samplings, Path(values.workdir), strategy
    )
    with stop_signals() as stop:
        points = adaptation.run(stop)
    rows = list(table(points))
    shown = Table(*rows[0], title=f"{values.workdir}: dev score in percent, mean ± sd")
    for row in rows:
        shown.add_row(*row.values())
    Console().print(shown)
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
