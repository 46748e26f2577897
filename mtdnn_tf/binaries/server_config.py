"""Writes the configuration files of tensorflow_model_server for an exported model.

    mtdnn-server-config --model_base_path=saved_models/glue --output_dir=serving

`models.config` (versions and their labels), `batching.config`, `monitoring.config` and, with
--server_key and --server_cert, `ssl.config`. docs/serving.md has the command that uses them.
"""

from pathlib import Path

from absl import flags
from google.protobuf import text_format
from google.protobuf.message import Message

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.serving.config.server_config import (
    batching_parameters,
    models_config,
    monitoring_config,
    ssl_config,
)
from mtdnn_tf.serving.versions import versions


def _define_flags() -> None:
    cli.define_path("model_base_path", None, "The model's folder.", required=True)
    flags.DEFINE_string("served_path", None, "Where the server sees it, if not there.")
    flags.DEFINE_string("model_name", None, "What clients call it; by default its folder's name.")
    cli.define_path("output_dir", None, "The folder to write to.", required=True)
    flags.DEFINE_integer(
        "stable", None, "The version labelled stable; without a canary the newest."
    )
    flags.DEFINE_integer("canary", None, "The version labelled canary.")
    flags.DEFINE_integer("batch_threads", 2, "Batches run at once: the server's cores.", 1)
    flags.DEFINE_integer("max_batch_size", 32, "Rows of a batch at most.", 1)
    flags.DEFINE_integer("batch_timeout_micros", 0, "How long a batch waits to fill up.", 0)
    cli.define_path("server_key", None, "The server's private key, a PEM file.")
    cli.define_path("server_cert", None, "The server's certificate, a PEM file.")
    cli.define_path("custom_ca", None, "Who signed the clients' certificates, a PEM file.")
    flags.DEFINE_bool("client_verify", False, "Whether clients must have a certificate.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    folder = Path(values.model_base_path)
    found = versions(folder)
    if not found:
        raise UserError(f"--model_base_path: {folder} holds no version of a model")
    if values.canary is not None and values.stable is None:
        raise UserError("--canary: expected --stable beside it, the version that others are to get")
    stable = found[-1] if values.stable is None else values.stable
    for name, number in (("stable", stable), ("canary", values.canary)):
        if number is not None and number not in found:
            known = ", ".join(map(str, found))
            raise UserError(f"--{name}: {folder} has no version {number}; there are {known}")
    name = values.model_name or folder.resolve().name
    served = values.served_path or str(folder.resolve())
    files: dict[str, Message] = {
        "models.config": models_config(name, served, stable, values.canary),
        "batching.config": batching_parameters(
            values.batch_threads, values.max_batch_size, values.batch_timeout_micros
        ),
        "monitoring.config": monitoring_config(),
    }
    if (values.server_key is None) != (values.server_cert is None):
        raise UserError("--server_key and --server_cert: expected both or none")
    if values.server_key:
        ca = Path(values.custom_ca) if values.custom_ca else None
        files["ssl.config"] = ssl_config(
            Path(values.server_key), Path(values.server_cert), ca, values.client_verify
        )
    for file, message in files.items():
        path = Path(values.output_dir) / file
        is_private = file == "ssl.config"
        write_atomically(path, text_format.MessageToString(message), private=is_private)
        print(f"wrote {path}")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
