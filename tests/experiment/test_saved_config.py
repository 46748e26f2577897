"""The config of a run: it rebuilds its experiment, in this version and in later ones.

tests/experiment/old_names is of the first version, which took names and files that are refused by now.
"""

import shutil
from pathlib import Path

import pytest
from harness.runs import error_line, run
from harness.tasks import write_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment import saved as saved_config
from mtdnn_tf.experiment.file import build_experiment, load_experiment
from mtdnn_tf.recipes.finetuning import finetune_experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.registry import builtin_tasks
from mtdnn_tf.validation.yaml_file import read_yaml, yaml_text

DATA = {"data_dir": "data"}
OLD = Path(__file__).parent / "old_names"


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


def test_a_run_may_have_names_that_a_new_experiment_may_not():
    experiment = RunDirectory(OLD).read_experiment()
    assert list(experiment.tasks) == ["mood", "encode"]
    assert [task.fields for task in experiment.heads] == [("review text",), ("class",)]
    assert experiment.tasks["mood"].labels == ("bad ", "good")
    assert experiment.training.clip_norm is None
    assert not experiment.data.cache_dir
    with pytest.raises(UserError, match=r"task 'mood': labels\.0: a label is text without"):
        load_experiment(OLD / "config.yaml")


def test_every_file_of_the_first_version_was_tsv_but_jsonl():
    tasks = RunDirectory(OLD).read_experiment().tasks
    formats = {
        file: (spec.format, spec.format_of(file))
        for task in tasks.values()
        for spec in task.splits.values()
        for file in spec.files
    }
    said, by_suffix = ("tsv", "tsv"), (None, "tsv")
    assert formats == {
        "train": said,
        "dev.csv": said,
        "a.json": said,
        "b.tsv": said,
        "test.JSONL": said,
        "train.tsv": by_suffix,
        "dev.jsonl": (None, "jsonl"),
    }


def test_such_names_are_refused_where_they_are_exported(tmp_path):
    config = Path(shutil.copy(OLD / "config.yaml", tmp_path))
    config.write_text(config.read_text().replace("'bad '", "bad"))
    done = run("export", f"--workdir={tmp_path}", f"--export_dir={tmp_path / 'models'}")
    assert "task 'mood': fields: 'review text' cannot be the name of a field" in error_line(done)


@pytest.mark.parametrize(
    "tasks",
    [
        None,
        ["cola"],
        {"cola": None},
        {"cola": {"name": "cola"}},
        {"cola": {"name": "cola", "splits": {"train": None}}},
        {"mine": {"kind": "similarity", "splits": {"train": {"file": "x.tsv"}}}},
    ],
)
def test_a_config_of_the_user_is_not_that_of_a_run(tasks, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml_text({"tasks": tasks}))
    message = r"config\.yaml: it is not the config of a run, which has the full spec of every task"
    with pytest.raises(UserError, match=message):
        RunDirectory(tmp_path).read_experiment()
