"""Configuration files of tensorflow_model_server: models, batching, monitoring, TLS."""

from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.config.messages import BatchingParameters, MonitoringConfig, SSLConfig

MESSAGES = {
    "models.config": ModelServerConfig,
    "batching.config": BatchingParameters,
    "monitoring.config": MonitoringConfig,
    "ssl.config": SSLConfig,
}
# In the folder of a version, for --enable_per_model_batching_parameters.
BATCHING_FILE = "batching_params.pbtxt"
MAX_REQUEST_ROWS = 1024  # The server refuses a request of more.
METRICS_PATH = "/monitoring/prometheus/metrics"
AnyMessage = TypeVar("AnyMessage", bound=Message)


def one_model(name: str, base_path: Path) -> ModelConfig:
    """The configuration of a model whose newest version is served.

    Args:
        name: What clients call it.
        base_path: The folder with its versions.

    Raises:
        UserError: There is no such folder.
    """
    if not base_path.is_dir():
        raise UserError(f"--model_base_path: there is no folder {base_path}")
    return ModelConfig(name=name, base_path=str(base_path), model_platform="tensorflow")


def models_config(
    name: str, base_path: str, stable: int, canary: int | None = None
) -> ModelServerConfig:
    """What `--model_config_file` takes: one model, and the labels of its versions.

    Args:
        name: What clients call the model.
        base_path: The folder with its versions, where the server sees it.
        stable: The version labelled so.
        canary: The version labelled so, served beside it.
    """
    config = ModelServerConfig()
    model = config.model_config_list.config.add(
        name=name, base_path=base_path, model_platform="tensorflow"
    )
    model.version_labels["stable"] = stable
    if canary is not None:
        model.version_labels["canary"] = canary
    served = sorted(set(model.version_labels.values()))
    model.model_version_policy.specific.versions.extend(served)
    return config


def batching_parameters(
    threads: int | None = None, max_batch_size: int = 32, timeout_micros: int = 0
) -> Message:
    """What `--batching_parameters_file` takes.

    There are no `allowed_batch_sizes`: the model does the work of the real tokens of a batch alone,
    and filling one up would add to it. Token ids of different lengths are padded by the server; their
    signature knows where a row ends, whatever it is padded with.

    Args:
        threads: Batches that are run at once; None for parameters of one model among others, whose
            threads they share.
        max_batch_size: Rows that are run at once at most; a larger request is run in parts.
        timeout_micros: How long a batch waits to fill up, in microseconds.
    """
    parameters: Any = BatchingParameters()
    parameters.max_batch_size.value = max(MAX_REQUEST_ROWS, max_batch_size)
    parameters.max_execution_batch_size.value = max_batch_size
    parameters.enable_large_batch_splitting.value = True
    parameters.batch_timeout_micros.value = timeout_micros
    parameters.max_enqueued_batches.value = 100
    if threads is not None:
        parameters.num_batch_threads.value = threads
    parameters.pad_variable_length_inputs = True
    return parameters


def monitoring_config() -> Message:
    """What `--monitoring_config_file` takes: metrics for Prometheus on the REST port."""
    config: Any = MonitoringConfig()
    config.prometheus_config.enable = True
    config.prometheus_config.path = METRICS_PATH
    return config


def ssl_config(key: Path, certificate: Path, ca: Path | None, verify: bool) -> Message:
    """What `--ssl_config_file` takes; it holds the private key, and is for gRPC alone.

    Args:
        key: The server's private key, a PEM file.
        certificate: Its certificate, a PEM file.
        ca: The authority that signed the clients' certificates, a PEM file.
        verify: Whether a client must have one.

    Raises:
        UserError: A file cannot be read or is not PEM, or clients are verified without an authority.
    """
    if verify and ca is None:
        raise UserError("--client_verify: expected the clients' authority, --custom_ca")
    config: Any = SSLConfig()
    config.server_key = _pem(key, "PRIVATE KEY")
    config.server_cert = _pem(certificate, "CERTIFICATE")
    if ca is not None:
        config.custom_ca = _pem(ca, "CERTIFICATE")
    config.client_verify = verify
    return config


def _pem(path: Path, kind: str) -> str:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a PEM file"
        raise UserError(f"cannot read {path}: {reason}") from error
    if f"{kind}-----" not in text:
        raise UserError(f"{path}: expected a PEM file with a {kind}")
    return text


def read_text_message(path: Path, message: AnyMessage) -> AnyMessage:
    """Fills a message from a file in protobuf's text format, and returns it.

    Raises:
        UserError: The file cannot be read, or is not such a message.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a {message.DESCRIPTOR.name}: {error}") from error


def read_models_config(path: Path) -> list[ModelConfig]:
    """The models of a `models.config`.

    Raises:
        UserError: It is not one, or has no model.
    """
    models = read_text_message(path, ModelServerConfig()).model_config_list.config
    if not models:
        raise UserError(f"{path}: expected a model_config_list with a config")
    for model in models:
        if not model.name or not model.base_path:
            raise UserError(f"{path}: a config lacks its name or base_path")
    return list(models)
