"""The config of a run: it rebuilds its experiment, in this version and in later ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import write_tasks

from mtdnn_tf import saved_config
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment_file import build_experiment, load_experiment
from mtdnn_tf.run_directory import RunDirectory
from mtdnn_tf.tasks.registry import builtin_tasks
from mtdnn_tf.training.finetuning import finetune_experiment
from mtdnn_tf.yaml_file import read_yaml, yaml_text

DATA = {"data_dir": "data"}


def saved(tree, folder):
    """The experiment of a config tree, and the run directory that has it."""
    experiment = build_experiment(tree, "x.yaml")
    directory = RunDirectory(folder)
    folder.mkdir(exist_ok=True)
    directory.write_experiment(experiment)
    return experiment, directory


@st.composite
def trees(draw):
    """A config of one built-in task, with splits changed and left out."""
    source = draw(st.sampled_from(["files", "tfds"]))
    with_head = [task for task in builtin_tasks(source).values() if task.has_head]
    task = draw(st.sampled_from(with_head))
    others = [name for name in task.splits if name != "train"]
    gone = draw(st.sets(st.sampled_from(others)))
    splits = {"train": {"optional": True}} | dict.fromkeys(gone)
    override = {"dropout": 0.2, "splits": splits}
    return {"tasks": {task.name: override}, "data": {**DATA, "source": source}}


@settings(deadline=None, max_examples=30)
@given(trees())
def test_a_saved_config_rebuilds_its_experiment(tmp_path_factory, tree):
    experiment, directory = saved(tree, tmp_path_factory.getbasetemp() / "saved")
    assert load_experiment(directory.config_file) == experiment
    assert directory.read_experiment() == experiment
    again = finetune_experiment(str(directory.path), None)
    assert again.tasks == experiment.tasks


def test_settings_change_a_saved_config(tmp_path):
    tree = {"tasks": ["mnli", "ax"], "data": DATA}
    _, directory = saved(tree, tmp_path / "run")
    changed = load_experiment(
        directory.config_file,
        ["tasks.mnli.splits.dev_mismatched=null", "tasks.rte={dropout: 0.2}", "tasks.ax.folder=x"],
    )
    expected = {
        "mnli": {"splits": {"dev_mismatched": None}},
        "ax": {"folder": "x"},
        "rte": {"dropout": 0.2},
    }
    assert changed.tasks == build_experiment({"tasks": expected}, "x").tasks


def test_labels_survive_a_saved_config(tmp_path):
    tasks = write_tasks(tmp_path / "data")
    tasks["mood"] |= {"labels": ["010", "no"], "label_values": {"1e3": "no", "~": "010"}}
    experiment, directory = saved({"tasks": tasks, "data": DATA}, tmp_path / "run")
    assert directory.read_experiment().tasks == experiment.tasks


def test_a_config_of_a_later_format_is_refused(tmp_path):
    _, directory = saved({"tasks": ["rte"]}, tmp_path / "run")
    later = read_yaml(directory.config_file) | {"format": 2}
    directory.config_file.write_text(yaml_text(later))
    with pytest.raises(UserError, match="format: expected at most 1 here, not 2"):
        directory.read_experiment()


def test_a_setting_that_was_renamed_is_found_under_its_old_name(tmp_path, monkeypatch):
    experiment, directory = saved(
        {"tasks": ["rte"], "data": DATA, "training": {"epochs": 7}}, tmp_path / "run"
    )
    old = read_yaml(directory.config_file)
    old["training"]["passes"] = old["training"].pop("epochs")
    old["tasks"]["rte"]["drop"] = old["tasks"]["rte"].pop("dropout")
    directory.config_file.write_text(yaml_text(old))
    renamed = {1: {"training.passes": "epochs", "tasks.*.drop": "dropout"}}
    monkeypatch.setattr(saved_config, "RENAMED", renamed)
    monkeypatch.setattr(saved_config, "FORMAT", 2)
    assert directory.read_experiment() == experiment
