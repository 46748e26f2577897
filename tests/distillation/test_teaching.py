"""Students trained by teachers, which label first or are asked live."""

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.kills import KILLER, TERMINATOR, assert_equal_runs
from harness.runs import error_line, numbers, run
from harness.tasks import GOOD, OFTEN, sentence, write_encoder, write_experiment

import mtdnn_tf
from mtdnn_tf.distillation import labelling
from mtdnn_tf.distillation.labelling import check_teachers, label
from mtdnn_tf.distillation.teaching import check_same_teachers
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.runs.directory import RunDirectory

LABELLED = 3 * 96 + 2 * 40  # Three of a teacher and a train split, two with an unlabelled one.
SAVE = "mtdnn_tf.distillation.soft_targets:_save"  # Two of each: the uids, and the only part.
# Stand-ins for `mtdnn-distill`.
OF_DISTILL = ("mtdnn_tf.binaries.train import", "mtdnn_tf.binaries.distill import")
KILLED, TOLD = KILLER.replace(*OF_DISTILL), TERMINATOR.replace(*OF_DISTILL)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distillation")
    return write_experiment(folder, training={**OFTEN, "epochs": 1})


@pytest.fixture(scope="module")
def teachers(config):
    """Two teachers of `same`, one of `near`."""
    runs = []
    for number, flags in enumerate(([], ["--set=training.seed=1"])):
        workdir = config.parent / f"teacher_{number}"
        done = run("train", f"--config={config}", f"--workdir={workdir}", *flags)
        assert done.returncode == 0, done.stderr
        runs.append(str(workdir))
    return {"same": runs, "near": runs[:1]}


def write_student(path, config, distillation, tasks=()):
    """A config of a student: that of its teachers with a section more, and other tasks."""
    tree = yaml.safe_load(config.read_text()) | {"distillation": distillation}
    tree["tasks"] |= dict(tasks)
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def student_config(config, teachers):
    """Text without labels is a part of `same`."""
    rng = random.Random(5)
    rows = [{"a": sentence(rng, GOOD), "b": sentence(rng, GOOD)} for _ in range(40)]
    file = config.parent / "more.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    same = yaml.safe_load(config.read_text())["tasks"]["same"]
    same["splits"]["unlabelled"] = {"file": str(file), "columns": {"label": None}}
    settings = {"teachers": teachers, "cache_dir": str(config.parent / "soft_targets")}
    return write_student(config.parent / "student.yaml", config, settings, {"same": same})


def distill(config, workdir, *flags):
    done = run("distill", f"--config={config}", f"--workdir={workdir}", *flags)
    assert done.returncode == 0, done.stderr
    return done


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in lines if record["kind"] == "train"]


@pytest.fixture(scope="module")
def auto(student_config, tmp_path_factory):
    """A run whose teachers label first, and what it printed."""
    workdir = tmp_path_factory.mktemp("auto") / "run"
    return workdir, distill(student_config, workdir, "--report").stdout


@pytest.fixture(scope="module")
def cache(student_config, auto):
    return student_config.parent / "soft_targets"


def assert_same_losses(one, two):
    """The first step sees the same weights; after it rounding goes its own way."""
    assert len(one) == len(two) > 0
    assert one[0] == pytest.approx(two[0], abs=1e-6)
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=2e-5)


def test_teachers_label_first_and_say_the_same_live(student_config, auto, cache, tmp_path):
    workdir, printed = auto
    assert f"the teachers labelled {LABELLED} examples, in {cache}" in "".join(printed.splitlines())
    assert "near/train: labelled 96 of 96\n" in printed
    distill(student_config, tmp_path / "live", "--set=distillation.targets=live")
    assert_same_losses(losses(workdir), losses(tmp_path / "live"))


def test_a_student_ends_with_a_report(auto, teachers):
    workdir, printed = auto
    assert str(workdir / "report.html") in "".join(printed.split())
    assert teachers["same"][1] in (workdir / "report.html").read_text()  # Of the configuration.


@pytest.mark.long
def test_what_was_labelled_before_gives_the_same_run(student_config, auto, cache, tmp_path):
    done = distill(student_config, tmp_path / "run", "--set=distillation.targets=cached")
    assert "loading the teacher" not in done.stderr
    assert_equal_runs(tmp_path / "run", auto[0])


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


def test_labelling_again_loads_no_teacher(student_config, cache, monkeypatch):
    monkeypatch.delattr(labelling, "load_member")
    strategy = tf.distribute.get_strategy()
    assert label(load_experiment(student_config), cache, strategy) == 0


@pytest.mark.long
def test_killed_and_told_to_stop_while_teachers_label_a_run_goes_on_bit_for_bit(
    student_config, auto, cache, tmp_path
):
    workdir = tmp_path / "run"
    flags = [f"--config={student_config}", f"--workdir={workdir}"]
    flags.append("--set=distillation.cache_dir=null")
    killed = run("", SAVE, 4, "before", *flags, script=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = run("", SAVE, 2, "after", *flags, script=TOLD)
    assert told.returncode == 128 + signal.SIGTERM, told.stderr
    last = told.stderr.splitlines()[-1]
    assert last.startswith("SIGTERM: saved at step 0 of ")
    assert last.endswith(f" in {workdir}; the same command goes on from there")
    done = run("distill", *flags)
    assert done.returncode == 0, done.stderr
    assert "the teachers labelled 176 examples" in done.stdout  # The last 3 of 5 parts.
    assert_equal_runs(workdir, auto[0])
    for path in cache.glob("*/*.npy"):
        there = workdir / "soft_targets" / path.relative_to(cache)
        np.testing.assert_array_equal(np.load(path), np.load(there))


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("mtdnn_tf.runs.directory:RunDirectory.write_experiment", 1),
        (SAVE, 1),
        ("mtdnn_tf.distillation.soft_targets:write_atomically", 3),
        ("mtdnn_tf.runs.metrics_log:MetricsLog.append", 1),
        ("mtdnn_tf.runs.metrics_log:MetricsLog.append", 4),
    ],
)
def test_killed_at_any_moment_a_run_goes_on_bit_for_bit(
    student_config, auto, tmp_path, place, call
):
    flags = [f"--config={student_config}", f"--workdir={tmp_path / 'run'}"]
    flags.append("--set=distillation.cache_dir=null")
    killed = run("", place, call, "before", *flags, script=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = run("distill", *flags)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(tmp_path / "run", auto[0])


@pytest.mark.long
def test_killed_labelling_alone_goes_on_where_it_was(student_config, cache, tmp_path):
    flags = [f"--config={student_config}", "--workdir=unused", "--label_only"]
    flags.append(f"--set=distillation.cache_dir={tmp_path / 'cache'}")
    assert run("", SAVE, 4, "before", *flags, script=KILLED).returncode == -signal.SIGKILL
    printed = run("distill", *flags).stdout
    assert printed.splitlines()[-1].startswith("272 soft targets")
    for path in cache.glob("*/*.npy"):
        there = tmp_path / "cache" / path.relative_to(cache)
        np.testing.assert_array_equal(np.load(path), np.load(there))


def test_a_dry_run_labels_nothing(student_config, tmp_path):
    cache = f"--set=distillation.cache_dir={tmp_path / 'cache'}"
    done = run("train", f"--config={student_config}", "--dry_run", cache)
    assert done.returncode == 0, done.stderr
    assert "the teachers label nothing in a dry run" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_what_is_trained_on_alone_is_labelled_until_a_signal_comes(student_config, tmp_path):
    flags = [f"--config={student_config}", f"--set=distillation.cache_dir={tmp_path / 'cache'}"]
    flags.append("--set=data.subsets={same: {count: 30}, near: {count: 20}}")
    told = run("", SAVE, 2, "after", *flags, "--label_only", "--workdir=unused", script=TOLD)
    assert told.returncode == 128 + signal.SIGTERM
    saved = f"SIGTERM: 20 examples labelled in {tmp_path / 'cache'}"
    assert told.stderr.splitlines()[-1] == f"{saved}; the same command goes on from there"
    done = run("distill", *flags, "--label_only", "--workdir=unused")
    assert "same/train: labelled 30 of 30\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("140 soft targets written")  # All but the first.
    flags.append("--set=distillation.targets=cached")
    done = run("distill", *flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_start_that_was_killed_does_not_bind_the_next_to_its_teachers(
    student_config, teachers, tmp_path
):
    workdir = tmp_path / "run"
    flags = [f"--config={student_config}", f"--workdir={workdir}"]
    place = "mtdnn_tf.runs.directory:RunDirectory.write_experiment"
    killed = run("", place, 1, "before", *flags, script=KILLER)
    assert killed.returncode == -9, killed.stderr
    noted = json.loads((workdir / "teachers.json").read_text())
    (workdir / "teachers.json").write_text(json.dumps(dict.fromkeys(noted, "of before")))
    distill(student_config, workdir)
    assert json.loads((workdir / "teachers.json").read_text()) == noted


def test_unlabelled_text_is_taught_by_the_teachers_alone(auto, cache):
    workdir, _ = auto
    data = json.loads((workdir / "data.json").read_text())
    assert data["same/unlabelled"]["examples"] == 40
    records = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    seen = sum(r["examples"].get("same", 0) for r in records if r["kind"] == "train")
    assert seen == 96 + 40
    assert len(list(cache.glob("same-unlabelled-*/meta.json"))) == 2


@pytest.mark.long
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


def test_a_changed_teacher_is_noticed(student_config, teachers, tmp_path):
    moved = shutil.copytree(teachers["near"][0], tmp_path / "moved")
    changes = [f"distillation.teachers.near=[{moved}]"]
    settings = load_experiment(student_config, changes).distillation
    student = RunDirectory(tmp_path)
    check_same_teachers(student, settings)
    check_same_teachers(student, settings)
    vocab = moved / "vocab.txt"
    vocab.write_text(vocab.read_text() + "another\n")
    RunDirectory(moved).write_hashes()
    with pytest.raises(UserError, match=f"{moved} is not in the state in which it began to teach"):
        check_same_teachers(student, settings)


def test_a_student_whose_teacher_has_changed_is_refused(student_config, auto, teachers, tmp_path):
    workdir = shutil.copytree(auto[0], tmp_path / "run")
    noted = json.loads((workdir / "teachers.json").read_text())
    changed = teachers["same"][1]
    (workdir / "teachers.json").write_text(json.dumps(noted | {changed: "of before"}))
    done = run("distill", f"--config={student_config}", f"--workdir={workdir}")
    assert done.returncode == 1
    assert f"{changed} is not in the state in which it began to teach" in error_line(done)


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
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.long
def test_a_teacher_with_another_vocabulary_labels_but_is_not_asked_live(
    config, run_of_other, tmp_path
):
    settings = {"teachers": {"same": [str(run_of_other)]}, "cache_dir": str(tmp_path / "cache")}
    path = write_student(tmp_path / "student.yaml", config, settings)
    assert "labelled 96 examples" in distill(path, tmp_path / "run").stdout
    assert assert_says_what_is_cached(tmp_path / "cache", config) == 1
    live = "--set=distillation.targets=live"
    done = run("distill", f"--config={path}", f"--workdir={tmp_path / 'live'}", live)
    assert done.returncode == 1
    assert "has another vocabulary than the student" in error_line(done)
    assert not (tmp_path / "live").exists()


def test_what_cannot_teach_is_told(config, teachers, tmp_path):
    tasks = yaml.safe_load(config.read_text())["tasks"]
    mistakes = [
        ({"same": ["nowhere"]}, {}, "nowhere is not a run directory"),
        ({"sam": teachers["same"]}, {}, "distillation.teachers names an unknown task"),
        ({"else": teachers["same"]}, {"else": tasks["same"]}, "has no task 'else'; it has mood"),
    ]
    path = tmp_path / "wrong.yaml"
    for of_task, more, message in mistakes:
        write_student(path, config, {"teachers": of_task}, more)
        with pytest.raises(UserError, match=message):
            check_teachers(load_experiment(path))


@pytest.mark.parametrize(
    "flags",
    [
        ["--set=distillation.targets=auto"],
        pytest.param(["--set=distillation.targets=live"], marks=pytest.mark.long),
        pytest.param(["--set=distillation.targets=cached"], marks=pytest.mark.long),
        pytest.param(["--label_only"], marks=pytest.mark.long),
    ],
)
def test_what_cannot_teach_is_told_before_anything_is_written(config, teachers, tmp_path, flags):
    same = yaml.safe_load(config.read_text())["tasks"]["same"]
    tasks = {"same": same | {"labels": ["no", "maybe", "yes"], "metrics": ["accuracy"]}}
    path = write_student(tmp_path / "wrong.yaml", config, {"teachers": teachers}, tasks)
    done = run("distill", f"--config={path}", f"--workdir={tmp_path / 'run'}", *flags)
    assert done.returncode == 1, done.stdout
    assert "it lacks the label 'maybe'; it has no, yes" in error_line(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_cache_without_soft_targets_is_told(student_config, tmp_path):
    flags = ["--set=distillation.targets=cached", "--set=distillation.cache_dir=null"]
    done = run("distill", f"--config={student_config}", f"--workdir={tmp_path / 'run'}", *flags)
    assert done.returncode == 1
    assert "label with mtdnn-distill --label_only first" in error_line(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_without_teachers_is_that_of_train(config, teachers, tmp_path):
    """A section without teachers changes nothing; `numbers` of two runs are the same."""
    path = write_student(tmp_path / "again.yaml", config, {"hard_weight": 0.1})
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    one, two = (
        [numbers(json.loads(x)) for x in Path(folder, "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "run", teachers["same"][0])
    )
    assert one == two
