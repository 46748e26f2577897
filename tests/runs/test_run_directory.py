"""A run's small files are what it began with, and its directory can be used and named."""

import os
import shlex
import sys

import pytest
from harness.tasks import write_experiment

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.files import write_atomically
from mtdnn_tf.runs.directory import FIXED_FILES, RunDirectory


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return load_experiment(write_experiment(tmp_path_factory.mktemp("experiment")))


@pytest.fixture
def directory(experiment, tmp_path):
    """A run that has begun."""
    directory = RunDirectory(tmp_path / "run")
    directory.begin()
    for name in FIXED_FILES:
        path = directory.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"one": 1}\n{"two": 2}\n')
    directory.write_hashes()
    directory.write_experiment(experiment)
    return directory


@pytest.mark.parametrize("name", FIXED_FILES)
def test_a_file_that_changed_is_named(name, directory):
    directory.read_experiment()
    path = directory.path / name
    path.write_text("\n".join(reversed(path.read_text().split("\n"))))
    with pytest.raises(
        UserError, match=f"{name} is damaged: it is not the file that the run began"
    ):
        directory.read_experiment()
    path.unlink()
    with pytest.raises(UserError, match=f"cannot read .*{name}: No such file"):
        directory.read_experiment()


def test_a_run_of_before_has_no_hashes_and_is_read(directory, experiment):
    (directory.path / "files.json").unlink()
    (directory.path / "vocab.txt").write_text("changed")
    assert directory.read_experiment() == experiment


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_hashes_are_told(content, directory):
    (directory.path / "files.json").write_text(content)
    with pytest.raises(UserError, match=r"cannot read .*files\.json"):
        directory.read_experiment()


def test_a_config_that_is_cut_off_is_told(directory):
    """Its sections that are gone would be read as defaults."""
    text = directory.config_file.read_text()
    directory.config_file.write_text(text[: text.index("encoder:")])
    with pytest.raises(UserError, match=r"config\.yaml is cut off: its last line is not"):
        directory.read_experiment()


@pytest.mark.parametrize(
    "argument",
    ["a\rb", "a\nb: [", "\x85", "\u2028", "\x1b[0m", "\x07", "caf\xe9 \N{GRINNING FACE}"],
)
def test_a_command_of_any_characters_is_told_as_it_was(
    argument, directory, experiment, monkeypatch
):
    monkeypatch.setattr(sys, "orig_argv", ["/bin/python", "-m", "x", argument])
    directory.write_experiment(experiment)
    assert directory.read_experiment() == experiment
    assert shlex.split(directory.read_command()) == ["python", "-m", "x", argument]


def test_a_command_that_is_not_utf_8_is_told_with_escapes(directory, experiment, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/bin/python", os.fsdecode(b"\xff")])
    directory.write_experiment(experiment)
    assert directory.read_experiment() == experiment
    assert directory.read_command() == r"python '\udcff'"


def test_the_command_of_a_run_of_before_has_no_quotes(directory):
    text = directory.config_file.read_text().split("\n", 1)[1]
    directory.config_file.write_text(f"# Begun by: python -m x '--set=a=b c'\n{text}")
    assert directory.read_command() == "python -m x '--set=a=b c'"


def test_a_text_that_is_not_utf_8_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*x: 'utf-8' codec can't encode"):
        write_atomically(tmp_path / "x", os.fsdecode(b"\xff"))
    assert list(tmp_path.iterdir()) == []


def contents(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_start_that_was_killed_leaves_nothing_to_the_next(directory):
    """What it did not write stays, as the soft targets that are there before a student begins."""
    directory.config_file.unlink()
    others = ["teachers.json", "encoder/LICENSE"]
    directory.begin(others)
    others += ["encoder/source.json", "checkpoints/last/ckpt-0.index"]
    for name in (*others, "soft_targets/x", "encoder/mine"):
        (directory.path / name).parent.mkdir(parents=True, exist_ok=True)
        (directory.path / name).touch()
    directory.make_room()
    assert contents(directory.path) == ["encoder/mine", "soft_targets/x"]


def test_the_start_of_a_run_of_before_is_removed_too(directory):
    directory.config_file.unlink()
    directory.checkpoints.joinpath("begun").touch()
    directory.make_room()
    assert not directory.checkpoints.exists()


def test_checkpoints_are_kept_where_only_the_config_is_lost(directory):
    """Also where the run was killed between the two: the mark goes when it goes on."""
    directory.begin()
    directory.remove_partial_files()
    directory.config_file.unlink()
    directory.best.path.mkdir()
    with pytest.raises(UserError, match="has checkpoints but no config"):
        directory.make_room()


def test_a_name_with_a_comma_is_refused_before_anything_is_written(tmp_path):
    message = r"cannot use the workdir .*a,b: ',' stands between"
    with pytest.raises(UserError, match=message), RunDirectory(tmp_path / "a,b").locked():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_in_use_while_it_is_locked(directory):
    assert not directory.is_in_use
    with directory.locked():
        assert RunDirectory(directory.path).is_in_use
    assert not directory.is_in_use


def dev(step, mean):
    return {"kind": "dev", "step": step, "epoch": 1, "metrics": {}, "scores": {}, "mean": mean}


def test_the_metrics_of_a_checkpoint_are_its_own(directory):
    """Not the best of the log, to which a run that goes on adds others."""
    with pytest.raises(UserError, match="no dev metrics"):
        directory.best_dev()
    for record in (dev(6, 0.5), dev(12, 0.9), dev(18, 0.7)):
        directory.metrics.append(record)
    assert directory.best_dev() == dev(12, 0.9), "of a run without its checkpoints"
    best = directory.best.path
    best.mkdir()
    (best / "ckpt-6.index").touch()
    assert directory.best_dev() == dev(6, 0.5), "of a run of before, by its step"
    with directory.best.written(18, keep=1) as path:
        path.with_suffix(".index").touch()
        path.with_suffix(".json").write_text(
            '{"kind": "dev", "step": 18, "epoch": 3, "metrics": {}, "scores": {}, "mean": 0.6}'
        )
    assert directory.best_dev()["mean"] == 0.6, "its own record"
    (best / "ckpt-18.json").write_text("{}")
    with pytest.raises(UserError, match=r"ckpt-18\.json: expected a record"):
        directory.best_dev()
    (best / "ckpt-18.json").unlink()
    directory.metrics.rewind(6, 1)
    with pytest.raises(UserError, match="no dev metrics"):
        directory.best_dev()
