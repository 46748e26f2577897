"""Configuration files of the model server, parsed back by its own definitions."""

import pytest
from google.protobuf import text_format
from harness.runs import error_line, run
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.config.messages import BatchingParameters, MonitoringConfig, SSLConfig
from mtdnn_tf.serving.config.server_config import (
    batching_parameters,
    models_config,
    monitoring_config,
    read_models_config,
    read_text_message,
    ssl_config,
)

KEY = "-----BEGIN PRIVATE KEY-----\nTm90IGEga2V5Lg==\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nTm90IG9uZS4=\n-----END CERTIFICATE-----\n"


@pytest.fixture
def model(tmp_path):
    """A folder with three versions."""
    for version in (1, 2, 10):
        (tmp_path / "models/glue" / str(version)).mkdir(parents=True)
    return tmp_path / "models/glue"


def test_the_newest_version_is_stable(model, tmp_path):
    done = run("server_config", f"--model_base_path={model}", f"--output_dir={tmp_path}/c")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "models.config",
        "batching.config",
        "monitoring.config",
    }
    (found,) = read_models_config(tmp_path / "c/models.config")
    assert (found.name, found.base_path) == ("glue", str(model))
    assert found.model_platform == "tensorflow"
    assert dict(found.version_labels) == {"stable": 10}
    assert list(found.model_version_policy.specific.versions) == [10]
    batching = read_text_message(tmp_path / "c/batching.config", BatchingParameters())
    assert batching == batching_parameters(threads=2)
    # As the server's own tests and documentation write them.
    text = " ".join((tmp_path / "c/batching.config").read_text().split())
    assert text == (
        "max_batch_size { value: 1024 } batch_timeout_micros { } "
        "max_enqueued_batches { value: 100 } num_batch_threads { value: 2 } "
        "pad_variable_length_inputs: true enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 32 }"
    )
    text = " ".join((tmp_path / "c/monitoring.config").read_text().split())
    assert text == 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
    monitoring = read_text_message(tmp_path / "c/monitoring.config", MonitoringConfig())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_a_canary_is_served_beside_the_stable_version(model, tmp_path):
    flags = ["--stable=2", "--canary=10", "--served_path=/models/glue", "--model_name=mtdnn"]
    done = run("server_config", f"--model_base_path={model}", f"--output_dir={tmp_path}", *flags)
    assert done.returncode == 0, done.stderr
    (found,) = read_models_config(tmp_path / "models.config")
    assert (found.name, found.base_path) == ("mtdnn", "/models/glue")
    assert dict(found.version_labels) == {"stable": 2, "canary": 10}
    assert list(found.model_version_policy.specific.versions) == [2, 10]


def test_every_message_is_parsed_back_as_it_was_written(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_text(KEY)
    certificate.write_text(CERTIFICATE)
    ssl = ssl_config(key, certificate, certificate, verify=True)
    fields = [line.split(":")[0] for line in text_format.MessageToString(ssl).splitlines()]
    assert fields == ["server_key", "server_cert", "custom_ca", "client_verify"]
    assert (ssl.server_key, ssl.server_cert, ssl.custom_ca) == (KEY, CERTIFICATE, CERTIFICATE)
    for message, empty in (
        (models_config("a", "/a", 1, 2), ModelServerConfig()),
        (models_config("a", "/a", 1), ModelServerConfig()),
        (batching_parameters(4, 64, 2000), BatchingParameters()),
        (monitoring_config(), MonitoringConfig()),
        (ssl, SSLConfig()),
    ):
        assert text_format.Parse(text_format.MessageToString(message), empty) == message


def test_a_key_is_for_its_owners_eyes(model, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_text(KEY)
    certificate.write_text(CERTIFICATE)
    done = run(
        "server_config",
        f"--model_base_path={model}",
        f"--output_dir={tmp_path}/c",
        f"--server_key={key}",
        f"--server_cert={certificate}",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c/ssl.config").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "c/models.config").stat().st_mode & 0o044


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stable=3"], "--stable: {model} has no version 3; there are 1, 2, 10"),
        (["--stable=1", "--canary=4"], "--canary: {model} has no version 4; there are 1, 2, 10"),
        (
            ["--canary=10"],
            "--canary: expected --stable beside it, the version that others are to get",
        ),
        (["--server_key={key}"], "--server_key and --server_cert: expected both or none"),
        (
            ["--server_key={cert}", "--server_cert={cert}"],
            "{cert}: expected a PEM file with a PRIVATE KEY",
        ),
        (
            ["--server_key={key}", "--server_cert={cert}", "--client_verify"],
            "--client_verify: expected the clients' authority, --custom_ca",
        ),
        (
            ["--server_key={key}", "--server_cert=/none.pem"],
            "cannot read /none.pem: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(flags, message, model, tmp_path):
    paths = {"model": model, "key": tmp_path / "key.pem", "cert": tmp_path / "cert.pem"}
    paths["key"].write_text(KEY)
    paths["cert"].write_text(CERTIFICATE)
    done = run(
        "server_config",
        f"--model_base_path={model}",
        f"--output_dir={tmp_path}/c",
        *(flag.format(**paths) for flag in flags),
    )
    assert done.returncode == 1
    assert error_line(done) == f"error: {message.format(**paths)}"
    assert not (tmp_path / "c").exists()


def test_a_folder_without_versions_is_told(tmp_path):
    done = run("server_config", f"--model_base_path={tmp_path}", "--output_dir=/none")
    assert error_line(done) == (f"error: --model_base_path: {tmp_path} holds no version of a model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "expected a ModelServerConfig"),
        ("modle_config_list { }", 'no field named "modle_config_list"'),
        ("", "expected a model_config_list with a config"),
        ("model_config_list { config { name: 'a' } }", "a config lacks its name or base_path"),
    ],
)
def test_a_bad_models_config_is_told(text, message, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_models_config(path)
