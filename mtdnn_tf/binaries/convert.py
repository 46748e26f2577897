"""Writes a pre-trained encoder, or the encoder of a run, as a Hugging Face folder.

    mtdnn-convert --input=uncased_L-12_H-768_A-12 --output=bert_base
    mtdnn-convert --input=runs/glue --output=glue_encoder

The input is a folder of Google's (TF1), of Model Garden's (TF2) or of Hugging Face's, a name on the
hub, or a run directory. `transformers.BertModel.from_pretrained` loads the output.
"""

from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli


def _define_flags() -> None:
    cli.define_path("input", None, "The encoder's folder or name, or a run.", required=True)
    cli.define_path("output", None, "The folder to write; must not exist.", required=True)
    flags.DEFINE_boolean("lower_case", None, "Whether text is lower-cased, if no file says.")
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Of a run: which checkpoint.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.recipes.conversion import convert

    done = convert(values.input, Path(values.output), values.lower_case, values.checkpoint)
    print(f"{done.source} -> {values.output}: {len(done.written)} tensors written")
    if not any(name.startswith("pooler.") for name in done.written):
        print("the input has no pooler, and so has the output: transformers will make a random one")
    if done.unread:
        print(f"left out as no part of the encoder: {', '.join(done.unread)}")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
