"""Predicts a task for the texts of a file.

    mtdnn-predict --workdir=runs/glue --task=rte --input=pairs.tsv --output=answers.tsv

The input is a .tsv, .txt, .csv, .jsonl, .ndjson, .json, .parquet, .arrow or .feather file, the text
forms also as .gz, or `-`: standard input, TSV or JSON. A table has the task's fields in a header;
columns of other names are told by --columns; --header=false takes just the fields in order;
--quoting=csv reads cells in quotes, as pandas writes them.
"""

from absl import flags

from mtdnn_tf.binaries import cli


def _define_flags() -> None:
    cli.define_paths("workdir", None, "The run directory; several are an ensemble.", required=True)
    flags.DEFINE_string("task", None, "Name of the task.", required=True)
    cli.define_input_flags()
    cli.define_path("output", "-", "FILE.tsv, FILE.jsonl, or - for stdout.")
    cli.define_strategy_flags(workers=False)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    cli.define_precision_flag()


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    strategy = cli.strategy_of(values)
    from mtdnn_tf.data.inputs import input_file, read_inputs
    from mtdnn_tf.data.tokenizing import tell_cut, tokenize_rows
    from mtdnn_tf.evaluation.prediction_files import deliver, prediction_records
    from mtdnn_tf.runs.ensemble import load_ensemble

    with strategy.scope():
        loaded = load_ensemble(values.workdir, values.checkpoint, values.precision)
    task = loaded.task(values.task)
    with input_file(values) as source:
        rows = read_inputs(task, source)
    store = tokenize_rows(task, rows, loaded.tokenizer)
    tell_cut(task.name, store, loaded.tokenizer)
    logits = loaded.logits(task.name, store)
    records = prediction_records(loaded.head(task.name), rows.uids, logits, groups=rows.groups)
    deliver(records, values.output)
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
