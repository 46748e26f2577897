"""A user's mistake is one clear line and exit code 1, and leaves nothing half-written."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.runs import error_line, run
from harness.tasks import OFTEN, VOCAB, write_experiment
from safetensors.numpy import load_file, save_file

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment


def edit(path, change):
    path.write_text(change(path.read_text()))


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def drop_last_layer(tensors):
    return {k: v for k, v in tensors.items() if not k.startswith("encoder.layer.0.")}


def narrow(tensors):
    return tensors | {"pooler.dense.weight": np.zeros((8, 8), np.float32)}


MISTAKES = {
    "a missing file": (
        lambda f: (f / "data/mood_train.tsv").rename(f / "data/mood_trian.tsv"),
        ["'mood'", "'train'", "mood_train.tsv", "did you mean 'mood_trian.tsv'"]),
    "an empty file": (
        lambda f: (f / "data/same_dev.jsonl").write_text(""), ["same_dev.jsonl", "no rows"]),
    "a file of a header alone": (
        lambda f: (f / "data/mood_dev.tsv").write_text("sentence\tlabel\n"), ["mood_dev.tsv"]),
    "a wrong column": (
        lambda f: edit(f / "data/mood_train.tsv", lambda t: t.replace("sentence", "sentense", 1)),
        ["mood_train.tsv:1", "'sentence'", "did you mean 'sentense'"]),
    "a label that is not in the spec": (
        lambda f: edit(f / "data/mood_dev.tsv", lambda t: t + "a fine day\t2\n"),
        ["mood_dev.tsv:34", "label '2'", "expected 'bad' or 'good'"]),
    "a row with too many columns": (
        lambda f: edit(f / "data/near_train.tsv", lambda t: t + "a\tb\tc\t1\n"),
        ["near_train.tsv:98", "4 columns, expected 3"]),
    "a score out of range": (
        lambda f: edit(f / "data/near_train.tsv", lambda t: t + "a\tb\t5.5\n"),
        ["near_train.tsv:98", "'5.5'", "a number from 0 to 5"]),
    "bytes that are not UTF-8": (
        lambda f: (f / "data/mood_train.tsv").write_bytes(b"sentence\tlabel\nch\xe9ri\t1\n"),
        ["mood_train.tsv:2", "0xe9", "not UTF-8"]),
    "a line that is not JSON": (
        lambda f: edit(f / "data/same_train.jsonl", lambda t: t + "{oops\n"),
        ["same_train.jsonl:97", "not JSON"]),
    "a vocabulary that does not match the weights": (
        lambda f: (f / "encoder/vocab.txt").write_text("\n".join([*VOCAB, "more"]) + "\n"),
        ["vocab.txt", str(len(VOCAB) + 1), str(len(VOCAB))]),
    "an encoder of one segment, and a task over pairs": (
        lambda f: edit(f / "encoder/config.json", lambda t: t.replace('_size": 2,', '_size": 1,')),
        ["tasks.near", "two texts", "type_vocab_size 1"]),
    "weights of another size": (
        lambda f: change_tensors(f / "encoder", narrow), ["pooler.dense.weight", "[8, 8]", "[16, 16]"]),
    "weights that lack a layer": (
        lambda f: change_tensors(f / "encoder", drop_last_layer), ["encoder.layer.0."]),
    "weights that are no safetensors file": (
        lambda f: (f / "encoder/model.safetensors").write_bytes(b"junk"), ["model.safetensors"]),
    "an encoder config that is not JSON": (
        lambda f: (f / "encoder/config.json").write_text("{"), ["config.json"]),
    "an encoder folder without weights": (
        lambda f: (f / "encoder/model.safetensors").unlink(), ["encoder", "model.safetensors"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_before_training_starts(mistake, tmp_path):
    from mtdnn_tf.training.loop import train

    path = write_experiment(tmp_path)
    make, expected = MISTAKES[mistake]
    make(tmp_path)
    experiment = load_experiment(path, ["training.deterministic=false"])
    with pytest.raises(UserError) as caught:
        train(experiment, tmp_path / "run")
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message, message
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "c").glob("*partial*")) == []


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("data.max_length=4", "max_length 4 is too short for a pair"),
        ("data.max_length=65", "batch.length 48 is under data.max_length 65"),
        ("batch={length: 80}", None),
        ("encoder.pretrained=no-such-encoder", "no-such-encoder"),
    ],
)
def test_a_setting_that_cannot_work_is_told_before_training_starts(assignment, expected, tmp_path):
    from mtdnn_tf.training.loop import train

    path = write_experiment(tmp_path)
    assignments = ["training.deterministic=false", assignment]
    if expected is None:
        assignments, expected = [*assignments, "data.max_length=70"], "over the 64 positions"
    with pytest.raises(UserError, match=expected):
        train(load_experiment(path, assignments), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_rows_may_be_left_out_and_are_counted(tmp_path):
    path = write_experiment(tmp_path, data={"on_bad_row": "skip"}, training={"epochs": 1})
    edit(tmp_path / "data/mood_train.tsv", lambda t: t + "a fine day\t2\nhalf a row\n")
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "2 of 98 rows" in done.stderr
    data = json.loads((tmp_path / "run/data.json").read_text())
    assert (data["mood/train"]["examples"], data["mood/train"]["skipped"]) == (96, 2)


def test_the_command_line_prints_one_line_and_exits_with_1(tmp_path):
    path = write_experiment(tmp_path)
    done = run(
        "train", f"--config={path}", f"--workdir={tmp_path / 'run'}", "--set=training.epoch=2"
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == f"error: {path}: training.epoch: unknown key; did you mean 'epochs'?"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("binary", ["evaluate", "predict"])
def test_a_folder_that_is_no_run_is_refused(binary, tmp_path):
    flags = ["--task=mood", "--input=-"] if binary == "predict" else []
    done = run(binary, f"--workdir={tmp_path}", *flags)
    assert done.returncode == 1
    assert error_line(done) == (f"error: {tmp_path} is not a run directory: it has no config.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with an experiment and the run of it."""
    folder = tmp_path_factory.mktemp("trained")
    path = write_experiment(folder, training={"epochs": 1})
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def again(trained, tmp_path):
    """The flags that train again in a copy of the run."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return [f"--config={trained / 'experiment.yaml'}", f"--workdir={tmp_path / 'run'}"]


def test_a_workdir_of_another_config_or_of_other_data_is_refused(again, trained, tmp_path):
    other = run("train", *again, "--set=training.seed=5")
    assert other.returncode == 1
    assert "training.seed is 0 there and 5 now" in error_line(other)
    shutil.copytree(trained / "data", tmp_path / "data")
    edit(tmp_path / "data/mood_train.tsv", lambda t: t + "a fine day\t1\n")
    changed = run("train", *again, f"--data_dir={tmp_path / 'data'}")
    assert changed.returncode == 1
    assert "the examples of mood/train are not those" in error_line(changed)


def test_checkpoints_that_are_no_run_of_ours_are_left_alone(tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 1})
    mine = tmp_path / "run" / "checkpoints" / "last" / "mine.bin"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "has checkpoints but no config.yaml" in error_line(done)
    assert mine.read_text() == "years of work"


def test_too_little_memory_is_not_told_as_a_full_disk(tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 1})
    script = """
import sys
import tensorflow as tf
from mtdnn_tf.training import step as trainer
from mtdnn_tf.binaries.train import main

def out_of_memory(self, steps):
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor of shape [9]")

trainer.Trainer.train = out_of_memory
sys.argv[0] = "train"
main()
"""
    done = run("", f"--config={path}", f"--workdir={tmp_path / 'run'}", script=script)
    assert done.returncode == 1
    assert error_line(done).startswith(
        "error: out of memory (OOM when allocating tensor of shape [9])"
    )


def test_a_flag_that_there_is_not_is_one_line(tmp_path):
    done = run("train", "--confg=x.yaml", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "--help lists the flags" in error_line(done)


def test_files_may_not_grow_that_large(tmp_path):
    path = write_experiment(tmp_path)
    flags = [f"--config={path}", f"--workdir={tmp_path / 'run'}"]
    limit = 40_000  # Bytes a file: less than a checkpoint has.
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv[0] = "train"
from mtdnn_tf.binaries.train import main
main()
"""
    done = run("", *flags, script=script)
    assert done.returncode == 1, done.stderr
    assert "cannot write the checkpoint 0" in error_line(done)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(options).returncode:
        pytest.skip("cannot mount a small file system here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_loses_nothing(small_disk, tmp_path):
    path = write_experiment(tmp_path, training=OFTEN | {"keep_checkpoints": 50})
    flags = [f"--config={path}", f"--workdir={small_disk / 'run'}"]
    done = run("train", *flags)
    assert done.returncode == 1, done.stderr
    message = error_line(done)
    assert "No space left on device" in message
    assert "the same command goes on from there" in message
    last = small_disk / "run/checkpoints/last"
    state = tf.train.get_checkpoint_state(str(last))
    for checkpoint in state.all_model_checkpoint_paths:
        for name, _ in tf.train.list_variables(checkpoint):
            tf.train.load_variable(checkpoint, name)
    whole = {os.path.basename(p) for p in state.all_model_checkpoint_paths}
    assert {p.name.split(".")[0] for p in last.glob("ckpt-*")} == whole
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    again = run("train", *flags)
    assert again.returncode == 0, again.stderr
    assert "going on from step" in again.stdout


def test_a_run_directory_without_its_checkpoints_is_refused(again, tmp_path):
    shutil.rmtree(tmp_path / "run/checkpoints")
    done = run("train", *again)
    assert done.returncode == 1
    assert "no checkpoint" in error_line(done)


def test_a_broken_record_of_metrics_is_one_line(again, tmp_path):
    edit(tmp_path / "run/metrics.jsonl", lambda text: text.replace("{", "", 1))
    done = run("report", again[1])
    assert done.returncode == 1
    assert f"cannot read {tmp_path / 'run/metrics.jsonl'}" in error_line(done)


def test_a_loss_that_is_no_number_is_one_line(tmp_path):
    training = {"learning_rate": 1e30, "clip_norm": None, "warmup_proportion": 0}
    path = write_experiment(tmp_path, training=training)
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1, done.stderr
    assert "lower training.learning_rate" in error_line(done)
    assert "Traceback" not in done.stderr


def test_a_config_in_a_run_directory_that_was_edited_lists_what_does_not_fit(again, tmp_path):
    workdir = tmp_path / "run"
    tree = yaml.safe_load((workdir / "config.yaml").read_text())
    tree["tasks"]["other"] = tree["tasks"].pop("mood") | {"name": "other"}
    (workdir / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False) + "# The end.\n")
    from mtdnn_tf.runs.loading import load

    with pytest.raises(UserError) as caught:
        load(workdir)
    assert "missing head_other/logits/bias" in str(caught.value)
    assert "unexpected head_mood/logits/bias" in str(caught.value)
