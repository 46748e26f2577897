"""The whole recipe: teachers, their choice, labels, the student, the table."""

import json

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.runs import run, some
from harness.tasks import write_experiment

from mtdnn_tf.data.splits import open_split, open_train
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation.cached_teachers import held_out
from mtdnn_tf.evaluation.bootstrap import paired_bootstrap
from mtdnn_tf.evaluation.prediction_files import DevPredictions, read_predictions, write_predictions
from mtdnn_tf.recipes.distillation import RecipeRun
from mtdnn_tf.recipes.distillation_file import load_recipe
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.metrics import compute
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.saved import load_tokenizer

VARIANTS = [{"training.seed": 5}, {"training.seed": 6, "encoder.hidden_dropout": 0.3}]
ONE_TEACHER = {"variants": [{}], "tasks": ["same"], "keep": 1}


def write_recipe(folder, **teachers):
    path = write_experiment(folder, training={"epochs": 1})
    tree = yaml.safe_load(path.read_text())
    tree["teachers"] = {
        "variants": VARIANTS,
        "tasks": ["same"],
        "finetune": {"training.learning_rate": 0.001},
        "keep": 2,
        **teachers,
    }
    settings = {
        "distillation.hard_weight": 0.3,
        "distillation.tasks.same.temperature": 2.0,
        "training.learning_rate": 0.002,
    }
    tree["student"] = {"seeds": [0], "settings": settings}
    path.write_text(yaml.safe_dump(tree))
    return path


def distill(config, workdir, *flags):
    return run("distill", f"--config={config}", f"--workdir={workdir}", *flags)


@pytest.fixture(scope="module", params=some([1, 2], 1), ids=["one teacher", "two teachers"])
def carried_out(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    config = write_recipe(folder, variants=VARIANTS[: request.param], keep=request.param)
    done = distill(config, folder / "kd", "--report")
    assert done.returncode == 0, done.stderr
    return config, folder / "kd", done.stdout


def test_the_recipe_leaves_a_table_of_everything(carried_out):
    _, workdir, printed = carried_out
    lines = json.loads((workdir / "results.json").read_text())
    by_metric = {(line["task"], line["metric"]): line for line in lines}
    assert list(by_metric) == [
        ("mood", "accuracy"), ("mood", "matthews"), ("near", "pearson"), ("near", "spearman"),
        ("same", "f1"), ("same", "accuracy"),
    ]  # fmt: skip
    taught, untaught = by_metric["same", "accuracy"], by_metric["near", "pearson"]
    assert len(taught["single"]) == len(taught["student"]) == 1
    teachers = sorted(path.name for path in (workdir / "teachers").iterdir())
    assert sorted(taught["teachers"]) == teachers
    assert sorted(map(str, taught["kept"])) == teachers
    assert untaught["teachers"] == {}
    assert untaught["ensemble"] is None
    assert "gain" in printed
    report = workdir / "student/seed_0/report.html"
    assert printed.splitlines()[-1] == f"report: {report}"
    assert str(workdir / "single/seed_0") in report.read_text()
    assert (workdir / "results.md").read_text().startswith("| task | metric |")


def test_the_table_has_what_the_runs_measured(carried_out):
    _, workdir, _ = carried_out
    line = next(
        line
        for line in json.loads((workdir / "results.json").read_text())
        if (line["task"], line["metric"]) == ("same", "accuracy")
    )
    for seed, value in enumerate(line["student"]):
        records = RunDirectory(workdir / "student" / f"seed_{seed}").metrics.read()
        assert records[-1]["metrics"]["same"]["dev"]["accuracy"] == pytest.approx(value)
    done = run(
        "evaluate",
        f"--workdir={','.join(map(str, sorted(workdir.glob('teachers/*/same'))))}",
        f"--output={workdir / 'ensemble.json'}",
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads((workdir / "ensemble.json").read_text())
    assert measured["metrics"]["same"]["dev"]["accuracy"] == pytest.approx(line["ensemble"])


def test_the_single_model_differs_from_the_student_in_teachers_alone(carried_out):
    _, workdir, _ = carried_out
    single, student = (
        RunDirectory(workdir / name / "seed_0").read_experiment() for name in ("single", "student")
    )
    assert student.distillation.of_task("same").temperature == 2.0
    assert not single.distillation.teachers
    assert single.training == student.training
    assert single.training.learning_rate == 0.002


def test_the_teachers_that_are_kept_are_the_best_on_dev(tmp_path, monkeypatch):
    variants = [{}, {"training.seed": 1}, {"training.seed": 2}]
    recipe = load_recipe(write_recipe(tmp_path, variants=variants, keep=2))
    of_recipe = RecipeRun(recipe, tmp_path / "kd", tf.distribute.get_strategy())
    scores = {0: 0.5, 1: 0.9, 2: 0.7}
    monkeypatch.setattr(of_recipe, "score", lambda number, task: scores[number])
    assert of_recipe._best("same") == [1, 2]


@pytest.mark.long
def test_a_second_call_trains_nothing_and_gives_the_same_table(carried_out):
    config, workdir, _ = carried_out
    before = (workdir / "results.json").read_text()
    done = distill(config, workdir)
    assert done.returncode == 0, done.stderr
    assert "training " not in done.stderr
    assert "0 of 96 examples labelled now" in done.stderr
    assert (workdir / "results.json").read_text() == before


@pytest.mark.long
def test_a_lost_student_alone_is_trained_again(carried_out, tmp_path):
    config, workdir, _ = carried_out
    (workdir / "student/seed_0").rename(tmp_path / "lost")
    done = distill(config, workdir)
    assert done.returncode == 0, done.stderr
    assert [x for x in done.stderr.splitlines() if x.startswith("training ")] == [
        f"training {workdir / 'student/seed_0'}"
    ]


@pytest.mark.long
def test_cross_fitted_teachers_label_only_what_they_did_not_see(tmp_path):
    config = write_recipe(tmp_path, folds=2, variants=[{}], keep=1)
    done = distill(config, tmp_path / "kd")
    assert done.returncode == 0, done.stderr
    student = RunDirectory(tmp_path / "kd/student/seed_0")
    experiment = student.read_experiment()
    assert experiment.distillation.cross_fitted
    tokenizer = load_tokenizer(student.path)
    task = experiment.tasks["same"]
    whole = open_split(task, "train", experiment.data, tokenizer)
    labelled_by = []
    for teacher in experiment.distillation.teachers["same"]:
        labels = set(np.asarray(whole.uids)[held_out(teacher, "same", whole)])
        run_of_teacher = RunDirectory(teacher).read_experiment()
        for of_run in (run_of_teacher, RunDirectory(run_of_teacher.init.run).read_experiment()):
            trained_on = set(open_train(of_run.tasks["same"], of_run.data, tokenizer).uids)
            assert not trained_on & labels
            assert len(trained_on) + len(labels) == len(whole)
        labelled_by.append(labels)
    assert labelled_by[0] | labelled_by[1] == set(whole.uids)
    assert not labelled_by[0] & labelled_by[1]


def test_a_cross_fitted_student_refuses_teachers_that_saw_everything(carried_out, tmp_path):
    config, workdir, _ = carried_out
    tree = yaml.safe_load(config.read_text())
    del tree["teachers"], tree["student"]
    tree["distillation"] = {
        "teachers": {"same": [str(workdir / "teachers/0/same")]},
        "cross_fitted": True,
        "cache_dir": str(tmp_path / "soft_targets"),
    }
    path = tmp_path / "student.yaml"
    path.write_text(yaml.safe_dump(tree))
    done = distill(path, tmp_path / "run")
    assert done.returncode == 1
    assert "96 of 96 examples of same/train" in done.stderr
    assert "add teachers whose data.folds.same leave them out" in done.stderr
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "soft_targets").exists()


@pytest.mark.long
def test_calibrated_students_learn_the_same_from_the_cache_and_live(carried_out, tmp_path):
    config, workdir, _ = carried_out
    tree = yaml.safe_load(config.read_text())
    del tree["teachers"], tree["student"]
    tree["distillation"] = {
        "teachers": {"same": [str(workdir / f"teachers/{i}/same") for i in (0, 1)]},
        "calibrated": True,
        "cache_dir": str(tmp_path / "cache"),
    }
    path = tmp_path / "student.yaml"
    path.write_text(yaml.safe_dump(tree))
    first = []
    for targets in ("live", "auto"):
        done = distill(path, tmp_path / targets, f"--set=distillation.targets={targets}")
        assert done.returncode == 0, done.stderr
        first.append(RunDirectory(tmp_path / targets).metrics.read()[0]["loss"])
    assert first[0] == pytest.approx(first[1], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teachers": {"variants": [{}], "tasks": ["sam"], "keep": 1}},
            "names 'sam', which is not",
        ),
        (
            {"teachers": {"variants": [{}], "tasks": ["same"]}},
            "keep is 3, but there are 1 variants",
        ),
        (
            {"teachers": {"variants": [{"training.sed": 1}], "tasks": ["same"], "keep": 1}},
            "training.sed: unknown key; did you mean 'seed'?",
        ),
        ({"student": {"seds": [1]}}, "student.seds: unknown key; did you mean 'seeds'?"),
        (
            {"teachers": {**ONE_TEACHER, "finetune": {"training.epoch": 1}}},
            "training.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            {"student": {"settings": {"distillation.tasks.mood.hard_weight": 0.1}}},
            "tasks.mood has no teachers",
        ),
        (
            {
                "teachers": {**ONE_TEACHER, "folds": 2},
                "student": {"settings": {"distillation.targets": "live"}},
            },
            "cross_fitted goes with targets: auto or cached, not live",
        ),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(tmp_path, change, message):
    path = write_recipe(tmp_path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    done = distill(path, tmp_path / "kd")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "kd").exists()


def test_other_ends_of_lines_are_characters_of_uids(tmp_path):
    task = TaskSpec.model_validate(
        {
            "name": "odd",
            "kind": "single_classification",
            "fields": ["text"],
            "labels": ["no", "yes"],
            "metrics": ["accuracy"],
            "splits": {"dev": {"file": "dev.tsv"}},
        }
    )
    uids = ["a\u0085b", "c\x1cd"]
    store = TokenStore(
        np.zeros(2, np.int32),
        np.zeros(2, np.int32),
        np.arange(3),
        np.array([0.0, 1.0]),
        np.array(uids),
    )
    write_predictions(tmp_path / "odd.tsv", task, store, np.array([[2.0, 1.0], [2.0, 1.0]]))
    found = read_predictions(tmp_path / "odd.tsv", task)
    assert list(found.uids) == uids
    assert (found.labels.tolist(), found.predictions.tolist()) == ([0.0, 1.0], [0.0, 0.0])


def test_predictions_are_read_back_as_they_were_written(carried_out):
    _, workdir, _ = carried_out
    directory = RunDirectory(workdir / "single/seed_0")
    experiment = directory.read_experiment()
    metrics = directory.metrics.read()[-1]["metrics"]
    for task in experiment.heads:
        found = read_predictions(directory.predictions / f"{task.name}_dev.tsv", task)
        for metric, value in metrics[task.name]["dev"].items():
            measured = compute(metric, found.labels, found.predictions, found.groups)
            assert measured == pytest.approx(value, abs=1e-6)


def models(quality, examples=300, seeds=3):
    """Predictions that are right with a given probability."""
    rng = np.random.default_rng(round(1000 * quality))
    labels = np.arange(examples) % 2.0
    return [
        DevPredictions(labels, np.where(rng.random(examples) < quality, labels, 1 - labels), None)
        for _ in range(seeds)
    ]


def test_the_bootstrap_sees_a_better_model_and_no_difference_where_there_is_none():
    clear = paired_bootstrap("accuracy", models(0.9), models(0.6))
    assert clear.low > 0.2
    assert clear.p_not_better == 0
    same = paired_bootstrap("accuracy", models(0.8), models(0.8))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_bootstrap_draws_queries_whole():
    groups = np.repeat(np.arange(40), 3)
    labels = np.tile([0.0, 1.0, 0.0], 40)
    right = DevPredictions(labels, labels, groups)
    wrong = DevPredictions(labels, 1 - labels, groups)
    difference = paired_bootstrap("mrr", [right], [wrong], resamplings=50)
    assert difference.value == pytest.approx(2 / 3)
    assert difference.low == pytest.approx(difference.high)


@pytest.mark.parametrize("metric", ["mrr", "accuracy_at_1"])
def test_the_bootstrap_of_queries_is_that_of_their_candidates(metric):
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(30), 4))
    labels = np.zeros(120)
    for query in range(30):
        labels[rng.choice(np.flatnonzero(groups == query))] = 1.0
    one, other = (DevPredictions(labels, rng.random(120), groups) for _ in range(2))
    found = paired_bootstrap(metric, [one], [other], resamplings=40, seed=5)
    drawing = np.random.default_rng([5, 7])
    gains = []
    for _ in range(40):
        drawn = [np.flatnonzero(groups == query) for query in drawing.integers(30, size=30)]
        rows, number = np.concatenate(drawn), np.repeat(np.arange(30), 4)
        gains.append(
            compute(metric, labels[rows], one.predictions[rows], number)
            - compute(metric, labels[rows], other.predictions[rows], number)
        )
    low, high = np.quantile(gains, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    value = [compute(metric, labels, m.predictions, groups) for m in (one, other)]
    assert found.value == pytest.approx(value[0] - value[1])


def test_the_bootstrap_refuses_other_examples():
    other = [DevPredictions(np.ones(300), np.ones(300), None)]
    with pytest.raises(ValueError, match="same examples"):
        paired_bootstrap("accuracy", models(0.9), other)
