"""Checkpoints are found by their files, put in place whole, and never lost to a damaged list."""

import contextlib
import itertools
import json
import shutil
from pathlib import Path
from struct import pack

import keras
import pytest
import tensorflow as tf
from absl import logging

from mtdnn_tf.errors import UserError
from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder
from mtdnn_tf.runs.checkpoints import Checkpoints, epochs_evaluated


class State:
    """A model and a counter with their checkpoints."""

    def __init__(self, folder, **how):
        keras.backend.clear_session()
        self.model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense.1")])
        self.step = tf.Variable(0, dtype=tf.int64)
        state = {"step": self.step, "epochs_evaluated": tf.Variable(2, dtype=tf.int64)}
        self.checkpoints = Checkpoints(folder, self.model, state=state, **how)

    def save(self, *numbers):
        for number in numbers:
            self.set(number)
            self.checkpoints.save(number)

    def set(self, number):
        self.step.assign(number)
        self.model.weights[0].assign(tf.fill([2, 2], float(number)))

    def values(self):
        return int(self.step.numpy()), float(self.model.weights[0].numpy()[0, 0])


@pytest.fixture
def saved(tmp_path):
    """The folder of a run whose states 18 and 21 are kept."""
    State(tmp_path).save(0, 18, 21)
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    return said


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder):
    return {path.name for path in CheckpointFolder(folder).newest_first()}


def test_the_newest_are_kept_and_tensorflow_finds_them(saved):
    assert names(saved / "last") == {"ckpt-18", "ckpt-21"}
    state = tf.train.get_checkpoint_state(str(saved / "last"))
    assert [p.rsplit("/", 1)[1] for p in state.all_model_checkpoint_paths] == ["ckpt-18", "ckpt-21"]
    assert tf.train.latest_checkpoint(str(saved / "last")) == str(saved / "last/ckpt-21")


@pytest.mark.parametrize("damage", [None, "hello\n", "", 'model_checkpoint_path: "/old/ckpt-21"\n'])
def test_nothing_is_lost_with_the_list(damage, saved):
    State(saved).checkpoints.save_best(21, None)
    for folder in (saved / "last", saved / "best"):
        if damage is None:
            (folder / "checkpoint").unlink()
        else:
            (folder / "checkpoint").write_text(damage)
    before = contents(saved)
    again = State(saved)
    assert again.checkpoints.restore()
    assert again.values() == (21, 21.0)
    assert again.checkpoints.restore_model("best").name == "ckpt-21"
    assert contents(saved) == before


DATA, INDEX = "ckpt-21.data-00000-of-00001", "ckpt-21.index"
DAMAGES = {
    "cut off": (DATA, lambda old: old[:5]),
    "empty": (DATA, lambda old: b""),
    "changed": (DATA, lambda old: old.replace(pack("f", 21), pack("f", 20))),
    "gone": (DATA, None),
    "index cut off": (INDEX, lambda old: old[:-7]),
    "index empty": (INDEX, lambda old: b""),
}


def damage(folder, kind):
    name, change = DAMAGES[kind]
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_taken_with_a_word(kind, saved, warnings):
    damage(saved / "last", kind)
    before = contents(saved)
    again = State(saved)
    assert again.checkpoints.restore()
    assert again.values() == (18, 18.0)
    (said,) = warnings
    assert f"{saved}/last/ckpt-21" in said
    assert said.endswith("; ckpt-18 is taken in its place")
    assert contents(saved) == before
    again.save(21)
    last = State(saved)
    assert last.checkpoints.restore()
    assert last.values() == (21, 21.0)
    assert len(warnings) == 1
    assert names(saved / "last") == {"ckpt-18", "ckpt-21"}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_model_without_another_is_one_line(kind, tmp_path):
    state = State(tmp_path)
    state.set(21)
    state.checkpoints.save_best(21, None)
    assert state.checkpoints.has_best()
    damage(tmp_path / "best", kind)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"best/ckpt-21.* read") as caught:
        State(tmp_path).checkpoints.restore_model()
    assert "\n" not in str(caught.value)
    assert not state.checkpoints.has_best()
    assert contents(tmp_path) == before


def test_a_damaged_state_counts_the_epochs_of_the_one_before(saved):
    assert epochs_evaluated(saved) == 2
    damage(saved / "last", "empty")
    assert epochs_evaluated(saved) == 2
    assert epochs_evaluated(saved / "nowhere") == 0


def test_newer_states_that_were_not_taken_go_when_the_run_goes_on(saved):
    """Else a damaged one would be tried again at each start, and be counted as one that is kept."""
    damage(saved / "last", "empty")
    again = State(saved)
    again.checkpoints.restore()
    again.save(20)
    assert names(saved / "last") == {"ckpt-18", "ckpt-20"}


def test_a_damaged_state_is_not_counted_as_one_that_is_kept(saved):
    damage(saved / "last", "empty")
    again = State(saved)
    again.checkpoints.restore()
    again.save(24)
    assert names(saved / "last") == {"ckpt-18", "ckpt-24"}


class Killed(BaseException):
    """Stands for `kill -9`."""


@pytest.mark.parametrize(
    ("number", "keep", "there"),
    [(20, 1, [20]), (20, 2, [10, 20]), (20, 2, [19, 20, 21]), (30, 1, [20]), (15, 1, [20])],
)
def test_a_save_that_is_killed_anywhere_leaves_a_whole_checkpoint(
    number, keep, there, tmp_path, monkeypatch
):
    def save(folder, number, keep, text):
        with folder.written(number, keep) as path:
            for suffix in (".data-00000-of-00001", ".index", ".json"):
                path.with_name(path.name + suffix).write_text(text)

    def texts(path):
        return {file.read_text() for file in path.parent.glob(f"{path.name}.*")}

    def may_die(call):
        def wrapper(*args, **kwargs):
            if not left:
                raise Killed
            left.pop()
            return call(*args, **kwargs)

        return wrapper

    for owner, name in (
        (Path, "replace"),
        (Path, "unlink"),
        (shutil, "copyfile"),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(owner, name, may_die(getattr(owner, name)))
    for calls in itertools.count():
        left = [None] * 1000
        folder = CheckpointFolder(tmp_path / str(calls))
        for old in there:
            save(folder, old, 5, f"old {old}")
        left = [None] * calls
        with contextlib.suppress(Killed):
            save(folder, number, keep, "new")
        found = [texts(path) for path in folder.newest_first()]
        assert found
        assert all(len(of_one) == 1 for of_one in found), "no checkpoint is of two"
        if left:
            break
    assert {"new"} in found
    assert len(found) == min(keep, 1 + sum(old < number for old in there))


@pytest.mark.parametrize("name", ["run[1]", "run[a", r"a\b", "run*", "a?b", "a]b", "a b ü"])
def test_a_folder_may_be_called_anything(name, tmp_path):
    folder = tmp_path / name
    state = State(folder)
    state.save(0, 18, 21)
    state.checkpoints.save_best(21, None)
    again = State(folder)
    assert again.checkpoints.restore()
    assert again.values() == (21, 21.0)
    assert again.checkpoints.restore_model("best").parent == folder / "best"
    assert names(folder / "last") == {"ckpt-18", "ckpt-21"}


def test_a_write_that_fails_leaves_what_was_there(saved, monkeypatch):
    state = State(saved)
    before = contents(saved)
    write = tf.train.Checkpoint.write

    def fail(self, path):
        write(self, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    with pytest.raises(UserError, match="No space left on device; the last one before is whole"):
        state.save(24)
    assert contents(saved) == before
    assert sorted(p.name for p in (saved / "last").iterdir()) == sorted(
        path.name for path in before
    )


def test_a_best_model_has_its_own_metrics_beside_it(tmp_path):
    state = State(tmp_path)
    for step in (6, 12):
        state.checkpoints.save_best(step, {"step": step})
    (record,) = (tmp_path / "best").glob("*.json")
    assert record.name == "ckpt-12.json"
    assert json.loads(record.read_text()) == {"step": 12}


def test_what_a_killed_save_left_goes_and_the_rest_stays(saved):
    before = contents(saved)
    for folder in ("partial", "ckpt-24_temp"):
        (saved / "last" / folder).mkdir()
        (saved / "last" / folder / "ckpt-24.index").write_bytes(b"half")
    again = State(saved)
    assert again.checkpoints.restore()
    assert again.values() == (21, 21.0)
    assert contents(saved) == before


def test_the_state_restored_is_not_written_again(saved):
    again = State(saved)
    again.checkpoints.restore()
    before = {p: p.stat().st_mtime_ns for p in (saved / "last").iterdir()}
    again.save(21)
    assert {p: p.stat().st_mtime_ns for p in (saved / "last").iterdir()} == before


def test_a_checkpoint_of_another_model_is_no_damaged_one(saved):
    other = State(saved)
    other.checkpoints._training["model"] = {"sequential/dense.1/kernel": tf.Variable([1.0])}
    with pytest.raises(UserError, match=r"not of this model: unexpected .*bias, .*kernel is"):
        other.checkpoints.restore()
