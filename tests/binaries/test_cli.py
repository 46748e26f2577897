"""What all binaries make of their flags, and of a terminal that lacks characters."""

import importlib
import io
import os
import runpy
import sys
from pathlib import Path

import pytest
from absl import flags
from harness.runs import error_line, run

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.prediction_files import deliver

ROOT = Path(__file__).parents[2]
BINARIES = (
    *("train", "evaluate", "predict", "finetune", "distill", "export", "report", "demo", "cache"),
    *("ask", "serve", "server_config", "submit", "convert", "adapt"),
)
TOOLS = ("load",)
# Flags that are no paths, among all that have a text as their value.
NO_PATHS = {
    *("task", "tasks", "set", "devices", "tpu", "server", "model", "model_name", "label", "host"),
    *("served_path", "task_runs", "fractions", "counts", "format", "columns"),
}


@pytest.fixture(params=[*BINARIES, *TOOLS])
def texts(request):
    """The flags of a binary whose values are texts, and a command line with what it needs."""
    if request.param in TOOLS:
        define = runpy.run_path(str(ROOT / "benchmarks" / f"{request.param}.py"))["_define_flags"]
    else:
        define = importlib.import_module(f"mtdnn_tf.binaries.{request.param}")._define_flags
    before = set(flags.FLAGS)
    define()
    names = set(flags.FLAGS) - before
    kinds = ("string", "comma separated list of strings", "multi string")
    found = {name for name in names if flags.FLAGS[name].flag_type() in kinds}
    yield found, ["x", *(f"--{name}=x" for name in found - {"model_config_file"})]
    for name in names:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def refusal(line, capsys):
    flags.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as caught:
        cli._parse(line)
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_a_flag_without_a_value_is_refused_by_name(texts, capsys):
    names, line = texts
    assert names
    for name in names:
        for value in ("", "x,") if flags.FLAGS[name].flag_type().startswith("comma") else ("",):
            assert f"--{name}" in refusal([*line, f"--{name}={value}"], capsys)
            flags.FLAGS[name].unparse()


@pytest.mark.parametrize(
    "flag", [["--flagfile="], ["-flagfile="], ["--flagfile", ""], ["--flagfile"]]
)
def test_a_file_of_flags_without_a_name_is_refused(flag, capsys):
    assert "--flagfile: expected a value, found none" in refusal(["x", *flag], capsys)
    flags.FLAGS.unparse_flags()
    assert cli._parse(["x", "--", *flag]) == ["x", *flag]


def test_a_path_is_a_local_one(texts, capsys):
    names, line = texts
    for name in names - NO_PATHS:
        message = refusal([*line, f"--{name}=gs://bucket/x"], capsys)
        assert f"--{name}=" in message
        assert "only local files and folders are taken, no gs://" in message
        assert "there is no such user" in refusal([*line, f"--{name}=~nobody!/x"], capsys)
        flags.FLAGS[name].parse("~/x")
        assert flags.FLAGS[name].value in (f"{os.environ['HOME']}/x", [f"{os.environ['HOME']}/x"])
        flags.FLAGS[name].unparse()


def test_a_path_among_arguments_is_one_too():
    assert cli.path_of("~/x") == f"{os.environ['HOME']}/x"
    assert cli.path_of("a/~") == "a/~"
    with pytest.raises(UserError, match="'s3://x': only local files"):
        cli.path_of("s3://x")


def test_an_error_is_a_line_and_its_traceback_where_that_is_asked_for():
    done = run("export", "--workdir=/none", "--export_dir=/none")
    assert error_line(done) == "error: /none is not a run directory: it has no config.yaml"
    more = run("export", "--workdir=/none", "--export_dir=/none", "--traceback")
    assert more.stderr.startswith("Traceback")
    assert more.stderr.splitlines()[-1] == error_line(done)


SCRIPT = """
import io, sys
from mtdnn_tf.binaries import cli
sys.argv = ["x"]
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")
cli.run(lambda *_: print("\\N{GRINNING FACE} caf\\xe9"), lambda: None, "")
"""


def test_a_message_that_a_terminal_cannot_show_is_escaped():
    done = run("x", script=SCRIPT.replace("\\xe9", "e"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\\U0001f600 cafe\n"


def test_predictions_on_standard_output_are_those_of_a_file(tmp_path, monkeypatch):
    records = [{"uid": "0", "label": "😀 schön", "probabilities": {"😀 schön": 0.75, "😡": 0.25}}]
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    deliver(iter([dict(record) for record in records]), "-")
    deliver(iter(records), str(tmp_path / "answers.tsv"))
    assert raw.getvalue() == (tmp_path / "answers.tsv").read_bytes()
    assert "😀" in raw.getvalue().decode()
