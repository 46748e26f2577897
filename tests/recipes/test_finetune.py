"""Starting from another run: its encoder and heads, by name; fine-tuning a copy for each task."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.runs import error_line, run
from harness.tasks import write_experiment

import mtdnn_tf
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.recipes.finetuning import FineTuning, finetune_experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.training.initial_weights import find_start

SMALL = {"training": {"epochs": 1}}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("finetune"), **SMALL)


@pytest.fixture(scope="module")
def multi_task(config):
    """A run of the three tiny tasks."""
    workdir = config.parent / "multi_task"
    done = run("train", f"--config={config}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def train(config, workdir, *flags):
    return run("train", f"--config={config}", f"--workdir={workdir}", *flags)


def first_weights(workdir):
    """The weights that a run began with: its checkpoint of step 0, kept by the test's settings."""
    path = str(workdir / "checkpoints" / "last" / "ckpt-0")
    return by_name(path)


def best_weights(workdir):
    return by_name(tf.train.latest_checkpoint(str(workdir / "checkpoints" / "best")))


def by_name(path):
    names = [name for name, _ in tf.train.list_variables(path) if name.startswith("model/")]
    return {
        name.split("/.ATTR")[0]: tf.train.load_variable(path, name)
        for name in names
        if "seed_generator" not in name
    }


def part(weights, layer):
    return {name: value for name, value in weights.items() if name.startswith(f"model/{layer}.S")}


def assert_equal(one, two, differ=False):
    assert one.keys() == two.keys()
    assert one
    same = [np.array_equal(one[name], two[name]) for name in one]
    assert not all(same) if differ else all(same)


def test_a_run_starts_from_the_encoder_and_heads_of_another(config, multi_task, tmp_path):
    """One head is taken, one reset, one dropped; the kind of start is told."""
    done = train(
        config,
        tmp_path / "run",
        f"--init_from={multi_task}",
        "--set=init.heads=[mood]",
        "--set=training.keep_checkpoints=9",
        "--set=training.seed=5",
    )
    assert done.returncode == 0, done.stderr
    assert "heads taken: mood; new: near, same; left behind: near, same" in done.stderr
    before, after = best_weights(multi_task), first_weights(tmp_path / "run")
    assert_equal(part(before, "encoder"), part(after, "encoder"))
    assert_equal(part(before, "head_mood"), part(after, "head_mood"))
    assert_equal(part(before, "head_same"), part(after, "head_same"), differ=True)


@pytest.mark.long
def test_tasks_can_be_added_and_dropped(config, multi_task, tmp_path):
    tree = yaml.safe_load(config.read_text())
    tree["tasks"] = {"same": tree["tasks"]["same"], "again": tree["tasks"]["mood"]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(tree))
    done = train(tmp_path / "other.yaml", tmp_path / "run", f"--init_from={multi_task}")
    assert done.returncode == 0, done.stderr
    assert "heads taken: same; new: again; left behind: mood, near" in done.stderr
    assert set(mtdnn_tf.load(tmp_path / "run").tasks) == {"same", "again"}


@pytest.mark.long
def test_a_started_run_needs_its_origin_no_more(config, multi_task, tmp_path):
    origin = shutil.copytree(multi_task, tmp_path / "origin")
    command = (config, tmp_path / "run", f"--init_from={origin}")
    assert train(*command).returncode == 0
    shutil.rmtree(origin)
    again = train(*command)
    assert again.returncode == 0, again.stderr
    assert "is trained already" in again.stdout


def test_what_auto_came_to_is_never_found_out_again(config, multi_task, tmp_path):
    """A run that goes on or is started from keeps the pooling that its config says."""
    auto = load_experiment(config, [])
    assert auto.encoder.pooling == "auto"
    directory = RunDirectory(multi_task)
    assert directory.read_experiment().encoder.pooling == "cls_pooler"  # The weights have one.
    other = RunDirectory(tmp_path)
    text = directory.config_file.read_text()
    other.config_file.write_text(text.replace("pooling: cls_pooler", "pooling: cls"))
    shutil.copytree(directory.encoder, other.encoder)
    for name in ("vocab.txt", "tokenizer.json"):
        shutil.copyfile(multi_task / name, tmp_path / name)
    other.check_same(auto)
    with pytest.raises(UserError, match="pooling is 'cls' there and 'mean' now"):
        other.check_same(load_experiment(config, ["encoder.pooling=mean"]))
    start = find_start(load_experiment(config, [f"init.run={tmp_path}"]))
    assert start.pooling == "cls"
    assert start.source() == json.loads(directory.source_file.read_text())
    assert set(start.source()["files"]) == {"config.json", "model.safetensors", "vocab.txt"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["init.heads=[mood,weather]"], "init.heads names an unknown task 'weather'"),
        (["init.run=/nowhere"], "/nowhere is not a run directory"),
        (["encoder.pooling=mean"], "encoder.pooling is mean, but cls_pooler in the run"),
        (["encoder.lower_case=false"], "encoder.lower_case is False, but True in the run"),
        (["data.max_length=65"], "data.max_length 65 is over the 64 positions"),
        (
            ["tasks.mood.labels=[good,bad]"],
            "the head of mood cannot be taken from .*: its labels is .*'bad', 'good'.* there",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_told(config, multi_task, settings, message):
    assignments = [f"init.run={multi_task}", "batch.length=65", *settings]
    with pytest.raises(UserError, match=message):
        find_start(load_experiment(config, assignments))


def test_a_head_that_the_other_run_lacks_is_told(config, multi_task, tmp_path):
    tree = yaml.safe_load(config.read_text())
    tree["tasks"]["again"] = tree["tasks"]["mood"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(tree))
    assignments = [f"init.run={multi_task}", "init.heads=[again]"]
    with pytest.raises(UserError, match="has no head again; it has mood, near, same"):
        find_start(load_experiment(tmp_path / "other.yaml", assignments))


def finetune(multi_task, workdir, *flags):
    return run(
        "finetune",
        f"--init_from={multi_task}",
        f"--workdir={workdir}",
        "--tasks=mood,near",
        "--set=training.epochs=1",
        "--set=training.keep_checkpoints=99",
        *flags,
    )


@pytest.fixture(scope="module")
def finetuned(multi_task):
    workdir = multi_task.parent / "finetuned"
    done = finetune(multi_task, workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_fine_tuning_makes_a_run_for_each_task_from_the_whole_model(multi_task, finetuned):
    workdir, _ = finetuned
    assert {p.name for p in workdir.iterdir()} == {"mood", "near", "finetune.json"}
    before = best_weights(multi_task)
    for task in ("mood", "near"):
        assert list(mtdnn_tf.load(workdir / task).tasks) == [task]
        after = first_weights(workdir / task)
        for layer in ("encoder", f"head_{task}"):
            assert_equal(part(before, layer), part(after, layer))


def test_fine_tuning_reports_before_and_after(multi_task, finetuned):
    workdir, printed = finetuned
    assert "no fine-tuning" in printed
    report = json.loads((workdir / "finetune.json").read_text())
    assert report["init_from"] == str(multi_task)
    assert report["examples"] == {"mood": {"dev": 32}, "near": {"dev": 32}}
    last = [json.loads(x) for x in (multi_task / "metrics.jsonl").read_text().splitlines()][-1]
    for task in ("mood", "near"):
        assert report["before"][task]["dev"] == pytest.approx(last["metrics"][task]["dev"])
        lines = (workdir / task / "metrics.jsonl").read_text().splitlines()
        dev = [json.loads(x) for x in lines if json.loads(x)["kind"] == "dev"]
        best = max(dev, key=lambda record: record["mean"])
        assert report["after"][task]["dev"] == pytest.approx(best["metrics"][task]["dev"])


@pytest.mark.long
def test_fine_tuning_goes_on_and_is_what_a_lone_run_is(config, multi_task, finetuned, tmp_path):
    """A second call trains nothing again; a task's run equals `train --init_from` of that task."""
    workdir, printed = finetuned
    again = finetune(multi_task, workdir)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is trained already") == 2
    tables = [text[text.rindex("┏") :] for text in (printed, again.stdout)]
    assert tables[0] == tables[1]
    tree = yaml.safe_load(config.read_text())
    tree["tasks"] = {"near": tree["tasks"]["near"]}
    (tmp_path / "near.yaml").write_text(yaml.safe_dump(tree))
    alone = train(
        tmp_path / "near.yaml",
        tmp_path / "near",
        f"--init_from={multi_task}",
        "--set=training.epochs=2",
    )
    assert alone.returncode == 0, alone.stderr
    assert_equal(best_weights(tmp_path / "near"), best_weights(workdir / "near"))


def test_fine_tuning_tells_mistakes_in_a_line(multi_task, tmp_path):
    done = run(
        "finetune", f"--init_from={multi_task}", f"--workdir={tmp_path / 'f'}", "--tasks=moood"
    )
    assert done.returncode == 1
    assert error_line(done) == (
        "error: --tasks: no task 'moood' to fine-tune; did you mean 'mood'?"
    )
    assert not (tmp_path / "f").exists()


def test_fine_tuning_needs_a_run_and_a_folder_of_its_own(multi_task):
    with pytest.raises(UserError, match="/nowhere is not a run directory"):
        finetune_experiment("/nowhere", None)
    with pytest.raises(UserError, match="is a run directory; choose a --workdir that is to hold"):
        FineTuning(finetune_experiment(str(multi_task), None), multi_task)


def test_a_dry_run_builds_everything_and_writes_nothing(config, tmp_path):
    before = sorted(p for p in config.parent.rglob("*") if "c" not in p.parts)
    done = run("train", f"--config={config}", "--dry_run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 tasks, mood 96, near 96, same 96 training examples" in done.stdout
    assert "2 steps taken: loss " in done.stdout
    assert not list(tmp_path.iterdir())
    assert sorted(p for p in config.parent.rglob("*") if "c" not in p.parts) == before


@pytest.mark.long
def test_a_dry_run_of_fine_tuning_builds_the_copy_of_each_task(multi_task, tmp_path):
    flags = [f"--init_from={multi_task}", "--tasks=mood,same", "--dry_run"]
    done = run("finetune", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for task in ("mood", "same"):
        assert f"fine-tuning for {task}: 1 tasks, {task} 96 training examples" in done.stdout
    assert done.stdout.count("2 steps taken: loss ") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_start_on_two_replicas_is_that_on_one(config, multi_task, finetuned, tmp_path):
    two = "--devices=CPU:0,CPU:1"
    flags = ["--set=training.keep_checkpoints=99"]
    done = train(config, tmp_path / "run", f"--init_from={multi_task}", two, *flags)
    assert done.returncode == 0, done.stderr
    before, after = best_weights(multi_task), first_weights(tmp_path / "run")
    assert_equal(part(before, "encoder"), part(after, "encoder"))
    assert_equal(part(before, "head_same"), part(after, "head_same"))
    done = finetune(multi_task, tmp_path / "tuned", two, "--tasks=mood")
    assert done.returncode == 0, done.stderr
    on_one = first_weights(finetuned[0] / "mood")
    assert_equal(on_one, first_weights(tmp_path / "tuned/mood"))
    reports = [
        json.loads((folder / "finetune.json").read_text())["before"]["mood"]
        for folder in (finetuned[0], tmp_path / "tuned")
    ]
    assert reports[0]["dev"] == pytest.approx(reports[1]["dev"], abs=1e-5)


@pytest.mark.long
def test_heads_of_other_settings_are_not_copied(config, multi_task, tmp_path):
    tree = yaml.safe_load(config.read_text())
    tree["tasks"] = {"same": tree["tasks"]["same"] | {"head": "san", "san": {"steps": 1}}}
    (tmp_path / "san.yaml").write_text(yaml.safe_dump(tree))
    done = train(tmp_path / "san.yaml", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    again = train(
        tmp_path / "san.yaml", tmp_path / "two", f"--init_from={tmp_path / 'one'}",
        "--set=tasks.same.san.steps=5",
    )  # fmt: skip
    assert again.returncode == 1
    message = error_line(again)
    assert message.startswith(f"error: cannot start from {tmp_path / 'one'}: missing head_same/")
    assert not (tmp_path / "two" / "config.yaml").exists()


@pytest.mark.parametrize("binary", ["train", "finetune"])
def test_a_run_needs_a_workdir(binary, config, multi_task):
    flag = f"--config={config}" if binary == "train" else f"--init_from={multi_task}"
    done = run(binary, flag)
    assert done.returncode == 1
    assert "--workdir is needed, and with --dry_run nothing is written" in done.stderr


@pytest.mark.parametrize("binary", ["train", "finetune"])
def test_a_run_to_start_from_may_be_called_anything(binary, config, tmp_path):
    flags = ["--dry_run"] if binary == "train" else ["--workdir=w"]
    origin = tmp_path / "\N{GRINNING FACE}\x7f x"
    done = run(binary, f"--config={config}", f"--init_from={origin}", *flags, cwd=tmp_path)
    assert error_line(done) == f"error: {origin} is not a run directory: it has no config.yaml"
