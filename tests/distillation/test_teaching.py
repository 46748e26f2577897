"""Students trained by teachers: live, from the cache, or both in turn."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from harness.kills import KILLER, TERMINATOR, assert_equal_runs
from harness.runs import error_line, numbers, run, some
from harness.tasks import GOOD, OFTEN, sentence, write_encoder, write_experiment

import mtdnn_tf
from mtdnn_tf.runs.directory import RunDirectory

LABEL_ONLY = ["--label_only", "--set=distillation.cache_dir=/nowhere"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("distillation"), training=OFTEN)


@pytest.fixture(scope="module")
def teachers(config):
    """Two teachers of `same` and `mood`, one of them with heads of its own only for these."""
    runs = []
    for number, flags in enumerate(([], ["--set=training.seed=1"])):
        workdir = config.parent / f"teacher_{number}"
        done = run("train", f"--config={config}", f"--workdir={workdir}", *flags)
        assert done.returncode == 0, done.stderr
        runs.append(str(workdir))
    return {"same": runs, "near": runs[:1]}


@pytest.fixture(scope="module")
def student_config(config, teachers):
    tree = yaml.safe_load(config.read_text())
    tree["distillation"] = {
        "teachers": teachers,
        "cache_dir": str(config.parent / "soft_targets"),
    }
    path = config.parent / "student.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def distill(config, workdir, *flags):
    done = run("distill", f"--config={config}", f"--workdir={workdir}", *flags)
    assert done.returncode == 0, done.stderr
    return done


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in lines if record["kind"] == "train"]


@pytest.fixture(scope="module")
def live(student_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("live") / "run"
    distill(student_config, workdir, "--set=distillation.targets=live")
    return workdir


@pytest.fixture(scope="module")
def cache(student_config):
    printed = distill(student_config, "unused", "--label_only").stdout
    folder = student_config.parent / "soft_targets"
    assert f"288 soft targets written to {folder}" in printed  # 96 examples, 3 teachers.
    return folder


@pytest.fixture(scope="module")
def auto(student_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("auto") / "run"
    distill(student_config, workdir)
    return workdir


def assert_same_losses(one, two):
    assert len(one) == len(two) > 0
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=2e-5)


def test_the_cache_and_live_teachers_give_the_same_losses(student_config, cache, live, tmp_path):
    distill(student_config, tmp_path / "run", "--set=distillation.targets=cached")
    # The first step sees the same weights; after it rounding goes its own way.
    first, of_live = losses(tmp_path / "run")[0], losses(live)[0]
    assert first == pytest.approx(of_live, abs=1e-6)
    assert_same_losses(losses(tmp_path / "run"), losses(live))


def test_auto_is_live_in_the_first_epoch_and_stored_after_it(auto, live):
    assert_same_losses(losses(auto), losses(live))
    steps = len(losses(auto)) // 2
    assert losses(auto)[:steps] == losses(live)[:steps]
    assert (auto / "soft_targets.npz").exists()


def test_the_soft_targets_are_what_the_teacher_predicts(cache, teachers, config):
    assert assert_says_what_is_cached(cache, config) == 2


def assert_says_what_is_cached(cache, config):
    """Every teacher of `same` in a cache predicts what the cache has; returns their number."""
    folders = [f for f in cache.iterdir() if f.name.startswith("same-train")]
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_text())
        loaded = mtdnn_tf.load(meta["run"])
        rows = [
            json.loads(line)
            for line in (config.parent / "data/same_train.jsonl").read_text().splitlines()
        ]
        predicted = loaded.predict("same", [(row["a"], row["b"]) for row in rows])
        logits = np.load(folder / "00000000.npy")
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = [[p.probabilities[label] for label in ("no", "yes")] for p in predicted]
        np.testing.assert_allclose(chances, expected, atol=1e-5)
    return len(folders)


def test_labelling_again_does_nothing(student_config, cache):
    printed = distill(student_config, "unused", "--label_only").stdout
    assert printed.splitlines()[-1].startswith("0 soft targets")


def test_killed_labelling_goes_on_where_it_was(student_config, cache, tmp_path):
    flags = [f"--config={student_config}", "--workdir=unused", "--label_only"]
    flags.append(f"--set=distillation.cache_dir={tmp_path / 'cache'}")
    script = KILLER.replace("mtdnn_tf.binaries.train import", "mtdnn_tf.binaries.distill import")
    place = "mtdnn_tf.distillation.soft_targets:_save"
    assert run("", place, 4, "before", *flags, script=script).returncode == -9
    printed = run("distill", *flags).stdout
    assert printed.splitlines()[-1].startswith("192 soft targets")
    for path in cache.glob("*/*.npy"):
        there = tmp_path / "cache" / path.relative_to(cache)
        np.testing.assert_array_equal(np.load(path), np.load(there))


@pytest.mark.long
def test_what_is_trained_on_alone_is_labelled_until_a_signal_comes(student_config, tmp_path):
    flags = [f"--config={student_config}", f"--set=distillation.cache_dir={tmp_path / 'cache'}"]
    flags.append("--set=data.subsets={same: {count: 30}, near: {count: 20}}")
    script = TERMINATOR.replace(
        "mtdnn_tf.binaries.train import", "mtdnn_tf.binaries.distill import"
    )
    place = "mtdnn_tf.distillation.soft_targets:_save"
    told = run("", place, 2, "after", *flags, "--label_only", "--workdir=unused", script=script)
    assert told.returncode == 128 + signal.SIGTERM
    saved = f"SIGTERM: 20 examples labelled in {tmp_path / 'cache'}"
    assert told.stderr.splitlines()[-1] == f"{saved}; the same command goes on from there"
    done = run("distill", *flags, "--label_only", "--workdir=unused")
    assert "same/train: labelled 30 of 30\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("60 soft targets written")  # Of same by two.
    flags += ["--set=distillation.targets=cached", "--set=training.epochs=1"]
    done = run("distill", *flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", some([2, 8], 8))
def test_a_killed_run_that_notes_soft_targets_goes_on_bit_for_bit(
    student_config, auto, tmp_path, call
):
    flags = [f"--config={student_config}", f"--workdir={tmp_path / 'run'}"]
    place = "mtdnn_tf.runs.metrics_log:MetricsLog.append"
    killed = run("", place, call, "before", *flags, script=KILLER)
    assert killed.returncode == -9, killed.stderr
    distill(student_config, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", auto)


@pytest.mark.long
def test_a_start_that_was_killed_does_not_bind_the_next_to_its_teachers(
    student_config, teachers, tmp_path
):
    workdir = tmp_path / "run"
    flags = [f"--config={student_config}", f"--workdir={workdir}", "--set=training.epochs=1"]
    place = "mtdnn_tf.runs.directory:RunDirectory.write_experiment"
    killed = run("", place, 1, "before", *flags, script=KILLER)
    assert killed.returncode == -9, killed.stderr
    noted = json.loads((workdir / "teachers.json").read_text())
    (workdir / "teachers.json").write_text(json.dumps(dict.fromkeys(noted, "of before")))
    distill(student_config, workdir, "--set=training.epochs=1")
    assert json.loads((workdir / "teachers.json").read_text()) == noted


def test_unlabelled_text_is_taught_by_the_teachers_alone(student_config, tmp_path):
    import random

    rng = random.Random(5)
    rows = [{"a": sentence(rng, GOOD), "b": sentence(rng, GOOD)} for _ in range(40)]
    file = tmp_path / "more.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = yaml.safe_load(student_config.read_text())
    tree["tasks"]["same"]["splits"]["unlabelled"] = {
        "file": str(file),
        "columns": {"label": None},
    }
    config = tmp_path / "student.yaml"
    config.write_text(yaml.safe_dump(tree))
    distill(config, tmp_path / "live", "--set=distillation.targets=live")
    data = json.loads((tmp_path / "live/data.json").read_text())
    assert data["same/unlabelled"]["examples"] == 40
    records = [json.loads(x) for x in (tmp_path / "live/metrics.jsonl").read_text().splitlines()]
    seen = sum(r["examples"].get("same", 0) for r in records if r["kind"] == "train")
    assert seen == 2 * (96 + 40)
    cache = f"--set=distillation.cache_dir={tmp_path / 'cache'}"
    distill(config, "unused", "--label_only", cache)
    distill(config, tmp_path / "cached", "--set=distillation.targets=cached", cache)
    assert_same_losses(losses(tmp_path / "cached"), losses(tmp_path / "live"))


def test_several_runs_are_evaluated_and_predict_as_one(config, teachers, tmp_path):
    runs = ",".join(teachers["same"])
    done = run("evaluate", f"--workdir={runs}", f"--predictions={tmp_path}")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "same_dev.tsv").read_text()
    rows = [line.split("\t") for line in text.splitlines()]
    column = rows[0].index("probability_yes")
    found = [float(row[column]) for row in rows[1:]]
    dev = [
        json.loads(line)
        for line in (config.parent / "data/same_dev.jsonl").read_text().splitlines()
    ]
    texts = [(row["a"], row["b"]) for row in dev]
    of_each = [
        [p.probabilities["yes"] for p in mtdnn_tf.load(path).predict("same", texts)]
        for path in teachers["same"]
    ]
    np.testing.assert_allclose(found, np.mean(of_each, axis=0), atol=1e-5)
    together = mtdnn_tf.load_ensemble(teachers["same"]).predict("same", texts)
    np.testing.assert_allclose([p.probabilities["yes"] for p in together], found, atol=1e-5)


def test_a_changed_teacher_makes_the_cache_refused(student_config, cache, teachers, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(teachers["near"][0], moved)
    settings = [
        "--set=distillation.targets=cached",
        f"--set=distillation.teachers.near=[{moved}]",
    ]
    distill(student_config, tmp_path / "run", *settings, "--set=training.epochs=1")
    vocab = moved / "vocab.txt"
    vocab.write_text(vocab.read_text() + "another\n")
    RunDirectory(moved).write_hashes()
    done = run(
        "distill", f"--config={student_config}", f"--workdir={tmp_path / 'other'}", *settings
    )
    assert done.returncode == 1
    assert f"no soft targets of {moved} for near/train" in done.stderr
    assert not (tmp_path / "other").exists()
    student = run(
        "distill",
        f"--config={student_config}",
        f"--workdir={tmp_path / 'run'}",
        *settings,
        "--set=training.epochs=1",
    )
    assert student.returncode == 1
    assert f"{moved} is not in the state in which it began to teach" in error_line(student)


def test_a_cache_of_other_data_is_refused(student_config, cache, config, tmp_path):
    data = shutil.copytree(config.parent / "data", tmp_path / "data")
    file = data / "same_train.jsonl"
    file.write_text(file.read_text().replace("the ", "a ", 1))
    flags = [f"--config={student_config}", "--set=distillation.targets=cached"]
    done = run("distill", *flags, f"--workdir={tmp_path / 'run'}", f"--data_dir={data}")
    assert done.returncode == 1
    assert "are of other data or labels; label again" in error_line(done)
    assert not (tmp_path / "run").exists()


def test_a_student_ends_with_a_report(student_config, cache, teachers, tmp_path):
    workdir = tmp_path / "run"
    printed = distill(student_config, workdir, "--set=training.epochs=1", "--report").stdout
    assert str(workdir / "report.html") in "".join(printed.split())
    page = (workdir / "report.html").read_text()
    assert teachers["same"][1] in page  # Of the configuration.


def test_the_numbers_of_the_first_epoch_that_are_lost_are_told(student_config, auto, tmp_path):
    copy = shutil.copytree(auto, tmp_path / "run")
    (copy / "soft_targets.npz").unlink()
    done = run("distill", f"--config={student_config}", f"--workdir={copy}")
    assert done.returncode == 1
    assert f"{copy / 'soft_targets.npz'} is gone" in error_line(done)


@pytest.fixture(scope="module")
def run_of_other(config, tmp_path_factory):
    """A run with the same word pieces in another order."""
    folder = tmp_path_factory.mktemp("other")
    other = write_encoder(folder / "encoder", seed=3)
    vocab = (other / "vocab.txt").read_text().splitlines()
    vocab[-2:] = vocab[-1], vocab[-2]
    (other / "vocab.txt").write_text("\n".join(vocab) + "\n")
    done = run(
        "train",
        f"--config={config}",
        f"--workdir={folder / 'run'}",
        f"--set=encoder.pretrained={other}",
        "--set=training.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_teacher_with_another_vocabulary_teaches_through_the_cache(
    config, run_of_other, tmp_path
):
    tree = yaml.safe_load(config.read_text())
    tree["training"]["epochs"] = 1
    tree["distillation"] = {
        "teachers": {"same": [str(run_of_other)]},
        "targets": "cached",
        "cache_dir": str(tmp_path / "cache"),
    }
    path = tmp_path / "student.yaml"
    path.write_text(yaml.safe_dump(tree))
    printed = distill(path, "unused", "--label_only").stdout
    assert printed.splitlines()[-1].startswith("96 soft targets")
    distill(path, tmp_path / "run")
    assert_says_what_is_cached(tmp_path / "cache", config)


def mistakes(config, teachers, run_of_other):
    tree = yaml.safe_load(config.read_text())
    labels = {**tree["tasks"]["same"], "labels": ["no", "maybe", "yes"], "metrics": ["accuracy"]}
    return [
        ({"teachers": {"same": ["nowhere"]}}, {}, "nowhere is not a run directory"),
        (
            {"teachers": {"sam": teachers["same"]}},
            {},
            "distillation.teachers names an unknown task",
        ),
        (
            {"teachers": {"same": [str(run_of_other)]}},
            {},
            "has another vocabulary than the student",
        ),
        ({"teachers": teachers}, {"same": labels}, "it lacks the label 'maybe'; it has no, yes"),
        (
            {"teachers": {"else": teachers["same"]}},
            {"else": tree["tasks"]["same"]},
            "has no task 'else'; it has ",
        ),
        (
            {"teachers": teachers, "targets": "cached"},
            {},
            "label with mtdnn-distill --label_only",
        ),
    ]


def test_what_cannot_teach_is_told_before_training_starts(config, teachers, run_of_other, tmp_path):
    for number, (settings, tasks, message) in enumerate(mistakes(config, teachers, run_of_other)):
        tree = yaml.safe_load(config.read_text())
        tree["distillation"] = {"targets": "live", **settings}
        tree["tasks"] |= tasks
        path = tmp_path / f"wrong_{number}.yaml"
        path.write_text(yaml.safe_dump(tree))
        ways = [[]] if "vocabulary" in message or "--label_only" in message else [[], LABEL_ONLY]
        for way in ways:
            done = run("distill", f"--config={path}", f"--workdir={tmp_path / 'run'}", *way)
            assert done.returncode == 1, done.stdout
            assert message in error_line(done)
            assert not (tmp_path / "run").exists()


def test_a_run_without_teachers_is_that_of_train(config, teachers):
    """A section without teachers changes nothing; `numbers` of two runs are the same."""
    workdir = config.parent / "again"
    tree = yaml.safe_load(config.read_text()) | {"distillation": {"hard_weight": 0.1}}
    path = config.parent / "again.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert run("train", f"--config={path}", f"--workdir={workdir}").returncode == 0
    one, two = (
        [numbers(json.loads(x)) for x in Path(folder, "metrics.jsonl").read_text().splitlines()]
        for folder in (workdir, teachers["same"][0])
    )
    assert one == two
