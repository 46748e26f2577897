"""Serves exported models on this machine, for development and tests.

    mtdnn-serve --model_base_path=saved_models/glue

It speaks the gRPC and REST API of tensorflow_model_server, which it is not: requests of several
clients are not batched, and nothing is tuned. `/` is a page to try the tasks on.
"""

import signal
import threading
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

GRACE_SECONDS = 10  # That requests have to end in when the server is told to stop.


def _define_flags() -> None:
    cli.define_path("model_base_path", None, "The model's folder, with its versions.")
    flags.DEFINE_string("model_name", "default", "What clients call the model.")
    cli.define_path("model_config_file", None, "Several models, policies, labels: a file.")
    flags.DEFINE_string("host", "127.0.0.1", "IPv4 address to listen at; by default loopback.")
    flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 takes a free one.", 0, 65535)
    flags.DEFINE_integer(
        "rest_api_port", 8501, "Port of REST and the page; 0 takes a free one.", 0, 65535
    )
    flags.DEFINE_bool("rest_api_enable_cors_support", False, "Let pages of other origins ask.")
    flags.DEFINE_float(
        "file_system_poll_wait_seconds", 1.0, "Pause between looks at the folders.", 0.1
    )
    flags.DEFINE_integer("threads", 32, "Requests that gRPC works on at once.", lower_bound=1)
    flags.mark_flags_as_mutual_exclusive(["model_base_path", "model_config_file"], required=True)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    cli.take_memory_from_the_system()
    import tensorflow as tf

    from mtdnn_tf.serving.config.server_config import one_model, read_models_config
    from mtdnn_tf.serving.local.grpc_service import build_grpc_server
    from mtdnn_tf.serving.local.manager import ModelManager
    from mtdnn_tf.serving.local.rest_api import RestApi, build_rest_server

    tf.get_logger().setLevel("ERROR")  # The loader of graphs for Sessions says it is deprecated.
    if values.model_config_file:
        path = Path(values.model_config_file)
        first = read_models_config(path)[0].name
        manager = ModelManager(lambda: read_models_config(path))
    else:
        first = values.model_name
        config = one_model(first, Path(values.model_base_path))
        manager = ModelManager(lambda: [config])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    manager.configure()  # Until its models are loaded, requests are answered that they are loading.
    print("a server for development and tests; it is not tensorflow_model_server", flush=True)
    rpc = build_grpc_server(manager, values.threads)
    try:
        port = rpc.add_insecure_port(f"{values.host}:{values.port}")
    except RuntimeError as error:
        raise UserError(f"cannot listen at {values.host}:{values.port}: {error}") from error
    rest = build_rest_server(
        RestApi(manager, first, values.rest_api_enable_cors_support),
        values.host,
        values.rest_api_port,
    )
    rpc.start()
    serving = threading.Thread(target=rest.serve_forever, daemon=True)
    serving.start()
    try:
        manager.start(values.file_system_poll_wait_seconds)
        print(f"gRPC at {values.host}:{port}", flush=True)
        print(f"REST and a page at http://{values.host}:{rest.port}/", flush=True)
        # Not for ever: once a signal came that did not wake the main thread, where Python handles it.
        while not stop.wait(1.0):
            pass
        print("stopping", flush=True)
    finally:
        calls_ended = rpc.stop(GRACE_SECONDS)
        rest.shutdown()
        rest.server_close()
        calls_ended.wait()
        manager.stop()
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
