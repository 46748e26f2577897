import contextlib

import pytest
import yaml
from harness.tasks import write_tasks
from pydantic import ValidationError, create_model

from mtdnn_tf.data.cache import default_cache_dir
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment, load_experiment, set_key
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.validation.fields import Section


def write(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def error_of(tree, assignments=()):
    for assignment in assignments:
        set_key(tree, assignment)
    with pytest.raises(UserError) as caught:
        build_experiment(tree, "x.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tasks_may_be_names_or_a_mapping_with_changes():
    by_list = build_experiment({"tasks": ["cola", "rte"]}, "x.yaml")
    by_map = build_experiment({"tasks": {"cola": None, "rte": {"dropout": 0.3}}}, "x.yaml")
    assert list(by_list.tasks) == list(by_map.tasks) == ["cola", "rte"]
    assert by_list.tasks["rte"].dropout == 0.1
    assert by_map.tasks["rte"].dropout == 0.3
    assert by_map.tasks["rte"].labels == by_list.tasks["rte"].labels


def test_a_task_of_ones_own_is_a_few_lines_of_yaml(tmp_path):
    experiment = build_experiment({"tasks": write_tasks(tmp_path)}, "x.yaml")
    assert experiment.tasks["mood"].labels == ("bad", "good")
    assert [task.name for task in experiment.heads] == ["mood", "same", "near"]


def test_the_resolved_config_in_a_run_directory_reads_back_equal(tmp_path):
    experiment = build_experiment(
        {
            "tasks": {
                "mnli": {"loss_weight": 2.0, "splits": {"dev_mismatched": None}},
                "ax": None,
                **write_tasks(tmp_path),
            },
            "encoder": {"pooling": "cls"},
            "mixture": {"mode": "temperature", "examples_per_epoch": 10},
            "training": {"clip_norm": None},
        },
        "x.yaml",
    )
    directory = RunDirectory(tmp_path / "run")
    directory.write_experiment(experiment)
    assert directory.read_experiment() == experiment
    directory.check_same(experiment)


@pytest.mark.parametrize(
    ("assignment", "keys", "value"),
    [
        ("training.epochs=7", ("training", "epochs"), 7),
        ("data.cache_dir=null", ("data", "cache_dir"), None),
        ("mixture.weights={rte: 2}", ("mixture", "weights"), {"rte": 2}),
        ("tasks.rte.dropout=0.2", ("tasks", "rte", "dropout"), 0.2),
        ("encoder.pretrained=a=b", ("encoder", "pretrained"), "a=b"),
        ("training.xla=on", ("training", "xla"), "on"),
        ("tasks.rte.labels=[010, yes]", ("tasks", "rte", "labels"), ["010", "yes"]),
        ("tasks.rte.label_values.1=1.0", ("tasks", "rte", "label_values"), {"1": "1.0"}),
    ],
)
def test_set_overrides_one_key(assignment, keys, value):
    tree = {"tasks": ["rte"]}
    set_key(tree, assignment)
    for key in keys:
        tree = tree[key]
    assert tree == value


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["training.learnin_rate=1"], "learnin_rate: unknown key; did you mean 'learning_rate'"),
        (["trainig.epochs=1"], "trainig: unknown key; did you mean 'training'"),
        (["tasks.rte.dropuot=0.1"], "dropuot: unknown key; did you mean 'dropout'"),
        (["tasks.colla={}"], "did you mean 'cola'"),
        (["training.epochs=0"], "training.epochs: should be greater than or equal to 1, not 0"),
        (["training.optimizer=sgd"], "training.optimizer: should be 'adamax' or 'adamw', not 'sgd'"),
        (["mixture.mode=weights"], "weights are needed"),
        (["mixture.mode=weights", "mixture.weights={rtee: 1}"], "did you mean 'rte'"),
        (["mixture.examples_per_epoch=5"], "does not go with mode: proportional"),
        (["batch.length=64"], "batch.length 64 is under data.max_length 128"),
        (["data.max_length=2"], "data.max_length: should be greater than or equal to 3"),
        (["tasks.ax={}"], "predicted with the head of 'mnli', which is not among the tasks"),
        (["data.cache_dir=gs://bucket/x"], "data.cache_dir: only local files and folders are taken"),
        (["encoder.pretrained=hf://bert"], "encoder.pretrained: only local files and folders"),
        (["init.run=''"], "init.run: expected a path, found none"),
        (["tasks.rte.folder=gs://b/x"], "folder: only local files and folders are taken, no gs://"),
        (["tasks.rte.splits.dev.file=gs://b/x.tsv"], "file: only local files and folders are taken, no gs://"),
        (["tasks.rte.splits.dev.file=[s3://b/x.tsv]"], "dev.file.0: only local files and folders"),
        (["tasks.rte.splits.dev.other_names=[~nobody!/x]"], "dev.other_names.0: there is no such"),
        (["tasks=[]"], "expected a list of task names or a mapping"),
        (["tasks={1: null}"], "task '1': no built-in task has this name"),
        (["training.seed=4294967296"], "training.seed: should be less than 4294967296"),
        (["training.epochs=yes"], "training.epochs: should be a valid integer, not 'yes'"),
        (["training.epochs=true"], "training.epochs: should be a valid integer, not True"),
        (["training.epochs=2.0"], "training.epochs: should be a valid integer, not 2.0"),
        (["training.epochs='2'"], "training.epochs: should be a valid integer, not '2'"),
        (["training.seed=1:20"], "training.seed: should be a valid integer, not '1:20'"),
        (["training.seed=010"], "training.seed: should be a valid integer, not '010'"),
        (["training.learning_rate=true"], "learning_rate: should be a valid number, not True"),
        (["training.learning_rate=.inf"], "learning_rate: should be a finite number, not inf"),
        (["training.learning_rate=1e999"], "learning_rate: should be a finite number, not inf"),
        (["training.clip_norm=.nan"], "training.clip_norm: should be a finite number, not nan"),
        (["mixture.mode=weights", "mixture.weights={rte: .inf}"], "weights.rte: should be a finite"),
        (["tasks.rte.loss_weight=.inf"], "loss_weight: should be a finite number, not inf"),
        (["tasks.rte.splits.train.optional=1"], "optional: should be a valid boolean, not 1"),
        (["tasks.rte.splits.train.columns.label=1.0"], "label: should be a valid string or"),
        (["training.xla=true"], "training.xla: should be 'auto', 'on' or 'off', not True"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line_that_names_the_mistake(assignments, expected):
    assert expected in error_of({"tasks": {"rte": None}}, assignments)


@pytest.mark.parametrize("name", ["encode", "all_pair", "serving_default", "mood_tokens"])
def test_a_task_that_is_called_as_a_signature_is_refused(name, tmp_path):
    tasks = write_tasks(tmp_path)
    tasks[name] = tasks.pop("same")
    assert f"tasks.{name}: the exported model has another signature" in error_of({"tasks": tasks})


def test_two_splits_never_have_one_file_of_predictions(tmp_path):
    tasks = write_tasks(tmp_path)
    tasks["mood_dev"] = tasks.pop("same")
    build_experiment({"tasks": tasks}, "x.yaml")
    tasks["mood"]["splits"]["dev_dev"] = {"file": "more.tsv"}
    message = error_of({"tasks": tasks})
    assert "mood_dev_dev.tsv" in message
    assert "tasks.mood_dev.splits.dev:" in message


def test_the_home_folder_may_be_written_as_the_shell_does(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    tree = {
        "tasks": ["rte"],
        "data": {"data_dir": "~/glue", "cache_dir": "~"},
        "encoder": {"pretrained": "~/bert"},
        "distillation": {"teachers": {"rte": ["~/runs/a", "runs/~b"]}},
    }
    split = {"file": "~/dev.tsv", "other_names": ["~/d.tsv"], "columns": {}}
    tree["tasks"] = {"rte": {"folder": "~/rte", "splits": {"dev": split}}}
    experiment = build_experiment(tree, "x.yaml")
    assert (experiment.data.data_dir, experiment.data.cache_dir) == ("/home/me/glue", "/home/me")
    assert experiment.encoder.pretrained == "/home/me/bert"
    assert experiment.distillation.teachers["rte"] == ("/home/me/runs/a", "runs/~b")
    task = experiment.tasks["rte"]
    dev = task.splits["dev"]
    assert (task.folder, dev.file) == ("/home/me/rte", "/home/me/dev.tsv")
    assert dev.other_names == ("/home/me/d.tsv",)


@pytest.mark.parametrize(
    ("variable", "found"),
    [("MTDNN_CACHE_DIR", "/home/me/c"), ("XDG_CACHE_HOME", "/home/me/c/mtdnn_tf")],
)
def test_the_cache_of_the_environment_is_a_local_folder(variable, found, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("MTDNN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert str(default_cache_dir()) == "/home/me/.cache/mtdnn_tf"
    monkeypatch.setenv(variable, "~/c")
    assert str(default_cache_dir()) == found
    monkeypatch.setenv(variable, "gs://b/x")
    with pytest.raises(UserError, match=rf"^\${variable}: only local files and folders are taken"):
        default_cache_dir()


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        ("splits.dev.file", "~/dev.tsv", "/home/me/dev.tsv"),
        ("splits.dev.file", ["~/dev.tsv", "more.tsv"], ("/home/me/dev.tsv", "more.tsv")),
        ("splits.dev.other_names", ["~/old.tsv"], ("/home/me/old.tsv",)),
        ("folder", "~/rte", "/home/me/rte"),
        ("splits.dev.file", "gs://b/dev.tsv", None),
        ("splits.dev.file", ["dev.tsv", "gs://b/dev.tsv"], None),
        ("splits.dev.other_names", ["gs://b/dev.tsv"], None),
        ("folder", "gs://b", None),
    ],
)
def test_the_paths_of_a_task_are_local(keys, value, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    *above, last = keys.split(".")
    override = {last: value}
    for key in reversed(above):
        override = {key: override}
    tree = {"tasks": {"rte": override}}
    if expected is None:
        reason = r": only local files and folders are taken, no gs://$"
        with pytest.raises(UserError, match=rf"^x.yaml: task 'rte': {keys}(\.\d)?{reason}"):
            build_experiment(tree, "x.yaml")
        return
    task = build_experiment(tree, "x.yaml").tasks["rte"]
    for key in above[:1]:
        task = getattr(task, key)[above[1]]
    assert getattr(task, last) == expected


def test_set_changes_one_of_two_tasks_that_share_a_section(tmp_path):
    shared = write_tasks(tmp_path)["mood"]
    tree = {"tasks": {"one": shared, "two": shared}}
    set_key(tree, "tasks.one.splits.dev.file=other.tsv")
    one, two = build_experiment(tree, "x.yaml").heads
    assert (one.splits["dev"].file, two.splits["dev"].file) == ("other.tsv", "mood_dev.tsv")


def sections(model=Section):
    for below in model.__subclasses__():
        yield below
        yield from sections(below)


@pytest.mark.parametrize("model", sections(), ids=lambda model: model.__name__)
def test_a_setting_is_taken_as_it_is_or_refused(model):
    """No truth value becomes a number, no text, and nothing is infinite."""
    for name, field in model.model_fields.items():
        alone = create_model("Alone", __base__=Section, **{name: (field.annotation, field)})
        for value in (True, 1, 1.0, "1", "yes", float("inf"), float("nan")):
            with contextlib.suppress(ValidationError):
                taken = getattr(alone(**{name: value}), name)
                assert taken == value
                assert type(taken) in (type(value), float)


@pytest.mark.parametrize(
    "assignment", ["epochs", "=3", "training.epochs.x=1", "a={b", "init.run=", "training= "]
)
def test_a_set_flag_that_is_no_assignment_is_refused(assignment):
    with pytest.raises(UserError, match="--set="):
        set_key({"training": {"epochs": 3}}, assignment)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- a\n- b\n", "expected a mapping"),
        (b"tasks: [a\n", "not YAML"),
        (b"tasks: \xff\n", "not UTF-8"),
        (None, "cannot read the config"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(content, expected, tmp_path):
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        load_experiment(path)
    assert str(path) in str(caught.value)


def test_the_data_directory_is_the_configs_own_folder_unless_given(tmp_path):
    path = write(tmp_path / "c.yaml", {"tasks": ["rte"]})
    assert load_experiment(path).data.data_dir == str(tmp_path)
    assert load_experiment(path, data_dir="elsewhere").data.data_dir == "elsewhere"


def test_a_workdir_of_another_config_names_the_difference(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.write_experiment(build_experiment({"tasks": ["rte", "cola"]}, "x.yaml"))
    other = build_experiment(
        {"tasks": ["rte", "cola"], "training": {"learning_rate": 0.001}}, "x.yaml"
    )
    with pytest.raises(UserError, match=r"training.learning_rate is 5e-05 there and 0.001 now"):
        directory.check_same(other)
    moved = build_experiment({"tasks": ["rte", "cola"], "data": {"data_dir": "/new"}}, "x.yaml")
    directory.check_same(moved)


def test_the_order_of_tasks_is_part_of_a_run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.write_experiment(build_experiment({"tasks": ["rte", "cola"]}, "x.yaml"))
    with pytest.raises(UserError, match="order of tasks"):
        directory.check_same(build_experiment({"tasks": ["cola", "rte"]}, "x.yaml"))
