"""evaluate, predict and `mtdnn_tf.load` on one trained run."""

import csv
import json
import os
import shutil
import threading

import numpy as np
import pytest
from absl import logging
from harness.runs import error_line, run, some
from harness.tasks import write_experiment
from scipy import stats
from sklearn import metrics as sk

import mtdnn_tf
from mtdnn_tf.errors import UserError
from mtdnn_tf.runs.directory import RunDirectory


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    path = write_experiment(folder, training={"epochs": 2, "learning_rate": 0.02})
    done = run("train", f"--config={path}", f"--workdir={folder / 'first'}")
    assert done.returncode == 0, done.stderr
    return shutil.move(folder / "first", folder / "moved")  # A run directory can be moved.


@pytest.fixture(scope="module")
def loaded(trained):
    return mtdnn_tf.load(trained)


@pytest.fixture(scope="module")
def evaluated(trained):
    """The JSON report and the folder of predictions."""
    report, folder = trained.parent / "metrics.json", trained.parent / "predictions"
    done = run("evaluate", f"--workdir={trained}", f"--output={report}", f"--predictions={folder}")
    assert done.returncode == 0, done.stderr
    assert "Matthews" in done.stdout
    return json.loads(report.read_text()), folder


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_loaded_run_has_model_tasks_and_tokenizer(loaded):
    assert list(loaded.tasks) == ["mood", "near", "same"]
    assert set(loaded.model.output) == {"mood", "near", "same"}
    assert loaded.tokenizer.max_length == 24


@pytest.mark.parametrize("name", ["run[1]", r"a\\b"])
def test_a_run_may_be_called_anything(name, trained, loaded, tmp_path):
    moved = shutil.copytree(trained, tmp_path / name)
    texts = ["the boat is calm .", "the hat is sad ."]
    assert mtdnn_tf.load(moved).predict("mood", texts) == loaded.predict("mood", texts)


def test_a_vocabulary_with_two_lines_swapped_is_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    lines = (copy / "vocab.txt").read_text().splitlines(keepends=True)
    (copy / "vocab.txt").write_text("".join([*lines[:7], lines[8], lines[7], *lines[9:]]))
    done = run("predict", f"--workdir={copy}", "--task=mood", "--input=-")
    assert done.returncode == 1
    assert f"{copy / 'vocab.txt'} is damaged" in error_line(done)


def test_a_run_that_goes_on_is_read_with_a_word(trained, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    mtdnn_tf.load(trained)
    assert said == []
    with RunDirectory(trained).locked():
        model = mtdnn_tf.load(trained, "last")
    assert said == [
        f"{trained} is in use by another process: this is its last checkpoint so far, "
        f"{model.checkpoint.name}"
    ]


def test_what_a_model_computes_in_can_be_chosen(trained, tmp_path):
    sentences, output = tmp_path / "in.tsv", tmp_path / "out.jsonl"
    sentences.write_text("sentence\nfine warm film\ndull cold film\n")
    done = run(
        "predict", f"--workdir={trained}", "--task=mood", f"--input={sentences}",
        f"--output={output}", "--precision=mixed_bfloat16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["probabilities"] for line in output.read_text().splitlines()]
    exact = mtdnn_tf.load(trained).predict("mood", ["fine warm film", "dull cold film"])
    differences = [
        abs(one[label] - other.probabilities[label])
        for one, other in zip(found, exact, strict=True)
        for label in one
    ]
    assert 0 < max(differences) < 0.05
    done = run("evaluate", f"--workdir={trained}", "--precision=bfloat61")
    assert done.returncode != 0
    assert "--precision" in done.stderr


def test_evaluation_agrees_with_the_training_runs_own(trained, evaluated):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    best = max((r for r in lines if r["kind"] == "dev"), key=lambda r: r["mean"])
    assert evaluated[0]["metrics"] == best["metrics"]
    for name in ("mood", "same", "near"):
        ours, theirs = (
            (folder / f"{name}_dev.tsv").read_text()
            for folder in (evaluated[1], trained / "predictions")
        )
        assert ours == theirs


def test_metrics_agree_with_scikit_learn_on_the_written_predictions(evaluated):
    report, folder = evaluated
    metrics = {task: report["metrics"][task]["dev"] for task in ("mood", "same", "near")}
    mood, same, near = (read(folder / f"{task}_dev.tsv") for task in ("mood", "same", "near"))
    gold, said = ([row[c] for row in mood] for c in ("gold", "label"))
    assert metrics["mood"]["accuracy"] == pytest.approx(sk.accuracy_score(gold, said))
    assert metrics["mood"]["matthews"] == pytest.approx(sk.matthews_corrcoef(gold, said))
    gold, said = ([row[c] for row in same] for c in ("gold", "label"))
    assert metrics["same"]["f1"] == pytest.approx(sk.f1_score(gold, said, pos_label="yes"))
    gold, said = ([float(row[c]) for row in near] for c in ("gold", "score"))
    assert metrics["near"]["pearson"] == pytest.approx(stats.pearsonr(gold, said)[0])
    assert metrics["near"]["spearman"] == pytest.approx(stats.spearmanr(gold, said)[0])
    scores = [np.mean(list(of_task.values())) for of_task in metrics.values()]
    assert report["mean"] == pytest.approx(np.mean(scores))


def test_every_example_is_counted_once(evaluated):
    report, folder = evaluated
    for task in ("mood", "same", "near"):
        uids = [row["uid"] for row in read(folder / f"{task}_dev.tsv")]
        assert uids == [str(i) for i in range(32)]
        assert report["examples"][task] == {"dev": 32}


def test_probabilities_sum_to_one_and_the_label_is_the_likeliest(evaluated):
    for row in read(evaluated[1] / "mood_dev.tsv"):
        chances = {name: float(row[f"probability_{name}"]) for name in ("bad", "good")}
        assert sum(chances.values()) == pytest.approx(1, abs=2e-6)  # Of six digits each.
        assert chances[row["label"]] == max(chances.values())


def test_one_task_can_be_evaluated_alone(trained):
    done = run("evaluate", f"--workdir={trained}", "--tasks=near", "--checkpoint=last")
    assert done.returncode == 0, done.stderr
    assert "near" in done.stdout
    assert "mood" not in done.stdout


def test_an_example_alone_is_as_in_company(loaded):
    texts = [("the boat is calm .", "the boat is not calm ."), ("the hat is sad .", "a lamp .")]
    texts = texts * 20 + [("the song is very happy .", "the road is foul .")]
    together = loaded.predict("near", texts)
    for i in (0, 1, len(texts) - 1):
        (alone,) = loaded.predict("near", [texts[i]])
        assert alone.score == pytest.approx(together[i].score, abs=1e-5)


def test_each_task_answers_with_its_own_head(loaded):
    text = ("the boat is calm .", "the boat is not calm .")
    (score,), (label,) = loaded.predict("near", [text]), loaded.predict("same", [text])
    assert score.label is None
    assert label.score is None
    assert list(label.probabilities) == ["no", "yes"]
    assert label.label in ("no", "yes")


def test_texts_of_any_kind_are_answered(loaded):
    texts = ["", " ", "unknown wörds 日本", "\x00\u200d", "calm " * 10_000, 'say "hi"\tnow\n']
    answers = loaded.predict("mood", texts)
    assert len(answers) == len(texts)
    for answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answers[0] == answers[1]
    assert loaded.predict("mood", []) == []


@pytest.mark.parametrize(
    ("task", "texts", "expected"),
    [
        ("mod", ["x"], "did you mean 'mood'"),
        ("mood", "x", "expected a list of examples"),
        ("mood", [("x", "y")], "mood takes sentence"),
        ("same", ["x"], "same takes a, b"),
        ("same", [("x", None)], "same takes a, b"),
    ],
)
def test_what_a_task_does_not_take_is_refused(loaded, task, texts, expected):
    with pytest.raises(UserError, match=expected):
        loaded.predict(task, texts)


def test_the_training_model_and_the_loaded_one_have_the_same_variables(loaded, trained):
    import tensorflow as tf

    path = tf.train.latest_checkpoint(str(trained / "checkpoints/best"))
    saved = {n for n, _ in tf.train.list_variables(path) if n.startswith("model/")}
    escaped = (v.path.replace(".", "..").replace("/", ".S") for v in loaded.model.variables)
    assert saved == {f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in escaped}


@pytest.mark.parametrize("texts", [None, 3, "the boat is calm ."])
def test_what_is_no_list_of_examples_is_told(texts, loaded):
    with pytest.raises(UserError, match=r"^texts: expected a list of examples, found ") as error:
        loaded.predict("mood", texts)
    assert str(error.value).endswith(repr(texts))


def test_text_that_is_no_unicode_is_answered_as_by_a_server(loaded):
    assert loaded.predict("mood", ["\ud83d calm"]) == loaded.predict("mood", ["? calm"])


PAIRS = [("the boat is calm .", "the boat is sad ."), ("a lamp .", "the road is very warm .")]


@pytest.mark.parametrize(
    "layout",
    some(
        ["header", "no header", "columns", "jsonl", "stdin", "stdin jsonl", "named pipe"],
        "columns",
        "stdin jsonl",
    ),
)
def test_predict_reads_tsv_jsonl_and_standard_input(layout, trained, loaded, tmp_path):
    pairs = [(PAIRS[0][0] * 9, PAIRS[0][1]), PAIRS[1]] if layout == "jsonl" else PAIRS
    rows = [dict(zip("ab", pair, strict=True)) | {"uid": f"u{i}"} for i, pair in enumerate(pairs)]
    table = "uid\tb\ta\n" + "".join(f"{r['uid']}\t{r['b']}\t{r['a']}\n" for r in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    plain = "".join("\t".join(pair) + "\n" for pair in PAIRS)
    text, name = {
        "header": (table, "x.tsv"),
        "no header": (plain, "x.tsv"),
        "columns": ("one\tb\n" + plain, "x.csv"),
        "jsonl": (lines, "x.jsonl"),
        "stdin": (plain, "-"),
        "stdin jsonl": (lines, "-"),
        "named pipe": (plain, "pipe"),
    }[layout]
    source = name if name == "-" else tmp_path / name
    if name == "pipe":
        os.mkfifo(source)
        threading.Thread(target=source.write_text, args=(text,)).start()
    elif name != "-":
        source.write_text(text)
    command = ["predict", f"--workdir={trained}", "--task=same"]
    if layout in ("no header", "stdin", "named pipe"):
        command += ["--header=false", "--format=tsv"]
    if layout == "columns":
        command += ["--columns=a=one", "--format=tsv"]
    output = tmp_path / "out.tsv"
    done = run(*command, f"--input={source}", f"--output={output}", stdin=text)
    assert done.returncode == 0, done.stderr
    assert ("1 of 2 texts are cut at 24 tokens" in done.stderr) == (layout == "jsonl")
    found = read(output)
    named = layout in ("header", "jsonl", "stdin jsonl")
    assert [row["uid"] for row in found] == (["u0", "u1"] if named else ["0", "1"])
    for row, answer in zip(found, loaded.predict("same", pairs), strict=True):
        assert row["label"] == answer.label
        assert float(row["probability_yes"]) == pytest.approx(answer.probabilities["yes"], abs=1e-5)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "the hat .\ta lamp .\n",
            "which this row does not name: the hat . | a lamp .; --columns=a=",
        ),
        ("A\tb\nx\ty\n", "same takes a, b, which this row does not name: A | b; --columns=a=NAME"),
        ("a\tb\nx\ty\tz\n", "x.tsv:2: 3 columns, expected 2"),
        ("a\tb\n", "no rows"),
        ("", "no rows"),
        (None, "no file"),
    ],
)
def test_predict_refuses_what_it_cannot_read(content, expected, trained, tmp_path):
    if content is not None:
        (tmp_path / "x.tsv").write_text(content)
    done = run(
        "predict",
        f"--workdir={trained}",
        "--task=same",
        f"--input={tmp_path / 'x.tsv'}",
        f"--output={tmp_path / 'out.tsv'}",
    )
    assert done.returncode == 1
    assert expected in error_line(done)
    assert not (tmp_path / "out.tsv").exists()
