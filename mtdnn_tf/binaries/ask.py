"""Asks a model server for the answers of tasks.

    mtdnn-ask --server=localhost:8500 --task=rte --input=pairs.tsv

The input is a file of any format that mtdnn-predict reads, or `-`: standard input. It has the task's
fields by name; --columns tells other names; with --header=false it has the first text and, for a pair,
the second.
"""

import numpy as np
from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.serving.client import Client


def _define_flags() -> None:
    flags.DEFINE_string("server", None, "host:port (gRPC), or http://host:port.", required=True)
    flags.DEFINE_string("model", "default", "What the server calls the model.")
    flags.DEFINE_string("task", None, "Name of the task.", required=True)
    cli.define_input_flags()
    cli.define_path("output", "-", "FILE.tsv, FILE.jsonl, or - for stdout.")
    flags.DEFINE_integer("version", None, "Version of the model; by default the newest.")
    flags.DEFINE_string("label", None, "Label of the version, such as stable.")
    flags.DEFINE_float(
        "timeout",
        10.0,
        "Deadline of a request in seconds; a model that loads is waited for as long.",
    )
    flags.DEFINE_integer("batch_size", 32, "Examples of a request at most.", lower_bound=1)
    flags.DEFINE_bool("tls", False, "Encrypt gRPC.")
    cli.define_path("root_certificates", None, "PEM file of who signed the server's.")
    cli.define_path("client_key", None, "PEM file of the client's own key.")
    cli.define_path("client_certificate", None, "PEM file of the certificate of that key.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.data.inputs import input_file
    from mtdnn_tf.evaluation.prediction_files import deliver
    from mtdnn_tf.serving.client.texts import read_texts

    client = Client(
        values.server,
        values.model,
        version=values.version,
        label=values.label,
        timeout=values.timeout,
        tls=values.tls,
        root_certificates=values.root_certificates,
        client_key=values.client_key,
        client_certificate=values.client_certificate,
        batch_size=values.batch_size,
    )
    with client, input_file(values) as source:
        fields = client.fields_of(values.task)
        rows = read_texts(values.task, fields, source)
        if set(rows.texts) == set(fields):
            encoded = {
                name: np.array([text.encode() for text in texts], object)
                for name, texts in rows.texts.items()
            }
            answers = client.predict_columns(values.task, encoded)
        else:
            answers = client.predict(values.task, list(zip(*rows.texts.values(), strict=True)))
    records = (
        {"uid": uid, "label": answer.label, "probabilities": answer.probabilities}
        if answer.label is not None
        else {"uid": uid, "score": answer.score}
        for uid, answer in zip(rows.uids, answers, strict=True)
    )
    deliver(records, values.output)
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
