"""Writes a trained model as a SavedModel that tensorflow_model_server serves.

    mtdnn-export --workdir=runs/glue --export_dir=saved_models/glue

The model's folder gets a new version, a signature for each task and some over all of them; see
docs/serving.md.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli


def _define_flags() -> None:
    cli.define_path("workdir", None, "The run directory.", required=True)
    cli.define_path("export_dir", None, "The model's folder, for all versions.", required=True)
    flags.DEFINE_integer("version", None, "By default one more than the highest.", lower_bound=1)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16", "int8"],
        "Of the encoder; with int8 it computes in bfloat16.",
    )
    flags.DEFINE_bool("freeze", False, "Make constants of the encoder's weights.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.serving.export.saved_model import export

    folder = export(
        values.workdir,
        Path(values.export_dir),
        values.version,
        values.checkpoint,
        precision=values.precision,
        freeze=values.freeze,
    )
    print(f"exported to {folder}; {folder / 'MODEL_CARD.md'} says what it takes and gives")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
