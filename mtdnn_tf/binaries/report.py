"""Writes the report of a run: a page with its curves, answers and errors.

    mtdnn-report --workdir=runs/glue
    mtdnn-report --workdir=runs/student runs/single

Further runs are compared with the first on the examples that both answered. `train` and `distill`
write the report of their run at their end.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli


def _define_flags() -> None:
    cli.define_paths("workdir", None, "The run directory; further ones to compare.", required=True)
    cli.define_path("data_dir", None, "Folder of the data; by default where the run found it.")
    cli.define_path("output", None, "The page; by default report.html in the run directory.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    from mtdnn_tf.reporting.page import write_report

    run, *others = list(values.workdir) + [cli.path_of(argument) for argument in arguments]
    output = Path(values.output) if values.output else None
    print(f"written to {write_report(run, others, values.data_dir, output)}")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
