"""Submissions to GLUE, from a run, a SavedModel and a server."""

import json
import random
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from harness.runs import error_line, run
from harness.servers import LOCAL, start
from harness.tasks import BAD, GOOD, sentence, write_encoder, write_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

import mtdnn_tf
from mtdnn_tf.data.sources import read_split
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.prediction_files import read_predictions
from mtdnn_tf.serving.export.saved_model import export
from mtdnn_tf.serving.local.servable import Servable
from mtdnn_tf.submission import models as models_module
from mtdnn_tf.submission.answering import BATCH_SIZE, answer
from mtdnn_tf.submission.check import check_submission
from mtdnn_tf.submission.dev_scores import score_dev
from mtdnn_tf.submission.formats import GLUE_FILES
from mtdnn_tf.submission.models import Model, hash_of_answers, of_runs, of_saved_model, probed
from mtdnn_tf.submission.summary import train_shares
from mtdnn_tf.submission.writing import SubmissionWriter, origins, refuse_missing
from mtdnn_tf.tasks import builtin_tasks
from mtdnn_tf.tasks.metrics import compute

FILES = {of_one.name: of_one for of_one in GLUE_FILES}
ANSWERED = ("CoLA", "STS-B", "RTE", "AX")


def rows_of(name, count, draw, *, labels):
    """Rows in the layout of GLUE's files, of sentences of the tiny vocabulary."""
    flags = [(draw.random() < 0.5, draw.random() < 0.5) for _ in range(count)]
    pairs = [[sentence(draw, GOOD if flag else BAD) for flag in both] for both in flags]
    answers = [int(other) for _, other in flags]  # Of pairs: easy to learn.
    if name == "CoLA":
        if labels:
            return [f"x\t{int(flags[i][0])}\t\t{pairs[i][0]}" for i in range(count)]
        return ["index\tsentence", *(f"{i}\t{pairs[i][0]}" for i in range(count))]
    header = ["index", "sentence1", "sentence2"]
    values = {
        "RTE": ("label", ["not_entailment", "entailment"]),
        "STS-B": ("score", ["1.25", "4.5"]),
        "MNLI": ("gold_label", ["contradiction", "entailment"]),
    }
    if labels:
        label, texts = values[name]
        found = ["\t".join([*header, label])]
        return found + [
            f"{i}\t{pairs[i][0]}\t{pairs[i][1]}\t{texts[answers[i]]}" for i in range(count)
        ]
    return ["\t".join(header), *(f"{i}\t{pairs[i][0]}\t{pairs[i][1]}" for i in range(count))]


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """A folder of GLUE with the files of some tasks, the tests as long as GLUE's."""
    folder = tmp_path_factory.mktemp("glue")
    draw = random.Random(0)
    for task, dev in (("CoLA", "dev"), ("RTE", "dev"), ("STS-B", "dev"), ("MNLI", "dev_matched")):
        (folder / task).mkdir()
        for split, count in (("train", 200), (dev, 40)):
            lines = rows_of(task, count, draw, labels=True)
            (folder / task / f"{split}.tsv").write_text("\n".join(lines) + "\n")
        if task in FILES:
            lines = rows_of(task, FILES[task].rows, draw, labels=False)
            (folder / task / "test.tsv").write_text("\n".join(lines) + "\n")
    (folder / "AX").mkdir()
    lines = rows_of("RTE", FILES["AX"].rows, draw, labels=False)
    (folder / "AX/diagnostic.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def workdir(glue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    config = {
        "tasks": {"cola": {}, "rte": {}, "stsb": {"loss_weight": 0.05}, "mnli": {"dropout": 0.1}},
        "encoder": {
            "pretrained": str(write_encoder(folder / "encoder")),
            "pooling": "mean",
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "data": {"max_length": 24, "data_dir": str(glue), "cache_dir": str(folder / "c")},
        "batch": {"rows": 4, "length": 48, "eval_rows": 4},
        "training": {
            "epochs": 8,
            "learning_rate": 0.002,
            "optimizer": "adamw",
            "loss_reduction": "example",
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(config))
    done = run("train", f"--config={folder / 'experiment.yaml'}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    return export(workdir, tmp_path_factory.mktemp("models") / "glue").parent


@pytest.fixture(scope="module")
def models(exported):
    with of_saved_model(exported) as found:
        yield found


def submit(glue, *flags):
    return run("submit", f"--glue_dir={glue}", *flags)


@pytest.fixture(scope="module")
def submitted(glue, exported, tmp_path_factory):
    """The submission of the SavedModel, and what was printed."""
    output = tmp_path_factory.mktemp("output") / "submission.zip"
    done = submit(glue, f"--saved_model={exported}", f"--output={output}", "--missing=majority")
    assert done.returncode == 0, done.stderr
    return output, done


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def values(text):
    return [line.split("\t")[1] for line in text.splitlines()[1:]]


def test_a_submission_is_right_and_says_where_each_file_is_from(submitted, workdir):
    output, done = submitted
    report = check_submission(output)
    assert report.faults == []
    assert {warning.split(".")[0] for warning in report.warnings} >= FILES.keys() - set(ANSWERED)
    for name in FILES.keys() - set(ANSWERED):
        assert set(values(content(output)[f"{name}.tsv"])) == {FILES[name].majority}
    printed = " ".join(done.stdout.split())
    assert "the majority" in printed
    for name, of_one in FILES.items():
        assert printed.count(f"{name} {of_one.split}: {of_one.rows:,} rows") == 1
    assert [path.name for path in output.parent.iterdir()] == ["submission.zip"]


@pytest.mark.parametrize("name", ANSWERED)
def test_it_says_what_the_model_in_memory_predicts(name, submitted, workdir, glue):
    of_one = FILES[name]
    task = builtin_tasks()[of_one.task]
    head = task.predict_with or task.name
    texts = read_split(task, of_one.split, glue).texts
    rows = list(zip(*texts.values(), strict=True))
    predictions = mtdnn_tf.load(workdir).predict(head, rows)
    said = values(content(submitted[0])[of_one.file])
    if name == "STS-B":
        expected = np.clip([prediction.score for prediction in predictions], 0, 5)
        np.testing.assert_allclose(np.array(said, float), expected, atol=6e-4)
    else:
        labels = builtin_tasks()[head].labels
        assert said == [of_one.values[labels.index(p.label)] for p in predictions]
        assert len(set(said)) > 1


@pytest.mark.long
def test_all_ways_give_the_same_file_byte_for_byte(submitted, glue, workdir, exported, tmp_path):
    expected = submitted[0].read_bytes()
    done = submit(
        glue, f"--workdir={workdir}", f"--output={tmp_path / 'a.zip'}", "--missing=majority"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.zip").read_bytes() == expected
    flags = [f"--model_base_path={exported}", "--model_name=tiny"]
    served = start([*LOCAL, *flags], tmp_path / "log")
    try:
        for address in (served.grpc, served.rest):
            output = tmp_path / "b.zip"
            flags = [f"--server={address}", "--model=tiny", f"--output={output}"]
            done = submit(glue, *flags, "--missing=majority")
            assert done.returncode == 0, done.stderr
            assert output.read_bytes() == expected
            output.unlink()
    finally:
        served.process.terminate()
        served.process.wait(60)


def test_dev_scores_are_those_of_evaluate(models, glue, workdir, tmp_path):
    output = tmp_path / "metrics.json"
    done = run("evaluate", f"--workdir={workdir}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    evaluated = json.loads(output.read_text())
    scores = score_dev(models, glue, lambda of_one, rows: None)
    assert scores.examples == evaluated["examples"]
    for task in ("cola", "rte", "mnli"):
        assert scores.metrics[task] == evaluated["metrics"][task]
    stsb = builtin_tasks()["stsb"]
    found = read_predictions(workdir / "predictions/stsb_dev.tsv", stsb)
    as_written = np.clip(found.predictions, 0, 5).round(3)
    for metric, value in scores.metrics["stsb"]["dev"].items():
        assert value == pytest.approx(compute(metric, found.labels, as_written), abs=2e-3)
    assert scores.average == pytest.approx(evaluated["mean"], abs=0.02)
    assert scores.left_out == ["SST-2", "MRPC", "MNLI-mm", "QNLI", "QQP", "WNLI"]


def test_without_a_dev_file_there_is_nothing_to_score(models, tmp_path):
    with pytest.raises(UserError, match="no task of the models has a dev file in "):
        score_dev(models, tmp_path, lambda of_one, rows: None)


@pytest.mark.long
def test_the_command_prints_dev_scores_and_writes_nothing(glue, exported, tmp_path):
    done = submit(glue, f"--saved_model={exported / '1'}", "--dev")
    assert done.returncode == 0, done.stderr
    assert "GLUE's average over 4 tasks" in done.stdout
    assert "not scored, for want of a model or a dev file: SST-2, MRPC, MNLI-mm" in done.stdout


@pytest.mark.long
def test_a_terminal_has_a_bar_for_each_file(glue, exported):
    flags = (f"--glue_dir={glue}", f"--saved_model={exported / '1'}", "--dev")
    done = run("submit", *flags, env={"FORCE_COLOR": "1", "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    for name in ("CoLA dev", "STS-B dev", "MNLI-m dev_matched", "RTE dev"):
        assert re.search(rf"^{name} +━+ +40/40 ", printed, re.MULTILINE), printed


@pytest.fixture(scope="module")
def cut_off(models, glue, tmp_path_factory):
    """The folder of a submission that was cut off, when two files and a part were done."""
    output = tmp_path_factory.mktemp("cut") / "submission.zip"

    def advance(of_one, rows):
        if of_one.name == "STS-B" and rows > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SubmissionWriter(output, glue, advance).write(origins(models, glue))
    assert not output.exists()
    return output.with_name("submission.zip.partial")


@settings(max_examples=5)
@given(st.floats(0, 1))
def test_one_that_was_cut_off_anywhere_goes_on_to_the_same(
    submitted, cut_off, models, glue, tmp_path_factory, part
):
    output = tmp_path_factory.mktemp("again") / "submission.zip"
    shutil.copytree(cut_off, output.with_name("submission.zip.partial"))
    half = output.with_name("submission.zip.partial") / "STS-B.tsv"
    whole = half.read_bytes()
    half.write_bytes(whole[: int(part * len(whole))])
    lines = half.read_bytes().splitlines(keepends=True)
    done = max(sum(line.endswith(b"\n") for line in lines) - 1, 0)
    seen = {}
    writer = SubmissionWriter(output, glue, lambda of_one, rows: seen.setdefault(of_one.name, rows))
    writer.write(origins(models, glue))
    assert output.read_bytes() == submitted[0].read_bytes()
    assert seen["CoLA"] == FILES["CoLA"].rows
    assert seen["STS-B"] == done - done % BATCH_SIZE
    assert not output.with_name("submission.zip.partial").exists()


@pytest.mark.long
def test_what_is_there_of_another_model_or_data_is_not_gone_on_with(
    cut_off, models, workdir, glue, tmp_path
):
    partial = tmp_path / "submission.zip.partial"
    shutil.copytree(cut_off, partial)
    before = {path: path.read_bytes() for path in partial.iterdir()}
    with of_runs([str(workdir)], {}) as others:
        writer = SubmissionWriter(tmp_path / "submission.zip", glue, lambda of_one, rows: None)
        with pytest.raises(
            UserError, match=r"partial has CoLA\.tsv of another model or other data"
        ):
            writer.write(origins(others, glue))
    assert {path: path.read_bytes() for path in partial.iterdir()} == before
    copy = tmp_path / "glue"
    shutil.copytree(glue, copy)
    path = copy / "STS-B/test.tsv"
    path.write_text(path.read_text().replace("lamp", "hat"))
    writer = SubmissionWriter(tmp_path / "submission.zip", copy, lambda of_one, rows: None)
    with pytest.raises(UserError, match=r"partial has STS-B\.tsv of another model or other data"):
        writer.write(origins(models, copy))


def test_what_is_there_and_cannot_be_read_is_not_gone_on_with(cut_off, models, glue, tmp_path):
    shutil.copytree(cut_off, tmp_path / "submission.zip.partial")
    (tmp_path / "submission.zip.partial/CoLA.json").write_text("")  # As a power cut leaves it.
    writer = SubmissionWriter(tmp_path / "submission.zip", glue, lambda of_one, rows: None)
    with pytest.raises(UserError, match=r"partial has CoLA\.tsv of another model or other data"):
        writer.write(origins(models, glue))


def test_files_of_others_are_not_removed_with_the_parts(models, glue, tmp_path):
    thesis = tmp_path / "submission.zip.partial/mine/thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("all of it")
    writer = SubmissionWriter(tmp_path / "submission.zip", glue, lambda of_one, rows: None)
    with pytest.raises(UserError, match=r"partial/mine is no part of a submission; move it away"):
        writer.write(origins(models, glue))
    assert thesis.read_text() == "all of it"


def test_two_writers_do_not_share_a_submission(models, glue, tmp_path):
    output = tmp_path / "submission.zip"
    (tmp_path / "submission.zip.partial").mkdir()
    writer = SubmissionWriter(output, glue, lambda of_one, rows: None)
    with (
        FileLock(tmp_path / "submission.zip.partial/.lock"),
        pytest.raises(UserError, match=r"submission\.zip is being written by another process"),
    ):
        writer.write(origins(models, glue))
    assert not output.exists()


def test_two_models_of_the_same_version_are_told_apart(models):
    """A server says no more of a model than its version."""
    fields = models["rte"].fields

    def other(signature, inputs, outputs=()):
        answered = models["rte"].call(signature, inputs, outputs)
        return answered | {"score": answered["score"] + 0.001} if "score" in answered else answered

    first, again, changed = (
        hash_of_answers(probed(fields, call))
        for call in (models["rte"].call, models["rte"].call, other)
    )
    assert first == again != changed


def test_a_task_without_a_model_or_a_file_is_an_error_unless_told_otherwise(models, glue, tmp_path):
    with pytest.raises(UserError) as caught:
        refuse_missing(origins(models, glue))
    assert str(caught.value).startswith("SST-2: no model has the task 'sst2'; MRPC: no model has")
    assert f"MNLI-m: there is no {glue}/MNLI/test_matched.tsv" in str(caught.value)


@pytest.mark.long
def test_each_task_is_answered_by_the_run_with_the_best_dev_score(workdir, tmp_path):
    better = tmp_path / "better"
    shutil.copytree(workdir, better)
    (of_best,) = (better / "checkpoints/best").glob("*.json")
    record = json.loads(of_best.read_text())
    record["scores"] |= {"rte": 2.0, "cola": -1.0}
    of_best.write_text(json.dumps(record))
    runs = [str(workdir), str(better)]
    with of_runs(runs, {}) as found:
        names = {task: model.name for task, model in found.items()}
    assert names == {"cola": runs[0], "rte": runs[1], "stsb": runs[0], "mnli": runs[0]}


@pytest.mark.long
def test_tasks_may_be_given_to_runs_of_which_one_is_in_memory_at_a_time(
    workdir, tmp_path, monkeypatch
):
    loaded = []

    class Counted(Servable):
        def __init__(self, folder):
            super().__init__(folder)
            loaded.append(folder.parent.name)
            assert len(loaded) == 1

        def close(self):
            super().close()
            loaded.clear()

    monkeypatch.setattr(models_module, "Servable", Counted)
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    runs = [str(workdir), str(other)]
    with of_runs([], {"rte": runs[0], "mnli": runs[1]}) as found:
        names = {task: model.name for task, model in found.items()}
        assert names == {"rte": runs[0], "mnli": runs[1]}
        assert loaded == []
        inputs = {"sentence1": np.array([b"a"], object), "sentence2": np.array([b"b"], object)}
        of_mnli = dict(zip(found["mnli"].fields["mnli"], inputs.values(), strict=True))
        seen = []
        for task, columns in (("rte", inputs), ("rte", inputs), ("mnli", of_mnli), ("rte", inputs)):
            assert found[task].call(task, columns, ["label"])["label"].shape == (1,)
            seen += loaded
        assert seen == ["1", "1", "2", "1"]
    assert loaded == []
    with pytest.raises(RuntimeError, match="was closed"):
        found["rte"].call("rte", inputs)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("CoLA", lambda lines: lines[:-1], r"CoLA/test.tsv: 1,062 rows; GLUE's has 1,063"),
        ("RTE", lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
         "RTE/test.tsv: row 0 has index 1; GLUE's are in their order"),
        ("STS-B", lambda lines: [*lines[:9], "8\tone", *lines[10:]], "STS-B/test.tsv:10: "),
    ],
)  # fmt: skip
def test_a_test_file_that_is_not_glues_is_told_before_anything_is_written(
    name, change, message, models, glue, tmp_path
):
    copy = tmp_path / "glue"
    shutil.copytree(glue, copy)
    path = copy / name / "test.tsv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    writer = SubmissionWriter(tmp_path / "out/s.zip", copy, lambda of_one, rows: None)
    with pytest.raises(UserError, match=message):
        writer.write(origins(models, copy))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=s.zip"], "expected one of --saved_model, --server, --workdir or --task_runs "),
        (["--saved_model=a", "--server=b", "--dev"], "found --saved_model and --server"),
        (["--saved_model=a"], "expected --output=FILE.zip, --dev or both"),
        (["--saved_model=a", "--dev", "--glue_dir=/none"], "--glue_dir: expected the folder"),
        (["--check=s.zip", "--glue_dir=/none"], "--glue_dir: expected the folder"),
        (["--workdir=RUN", "--output=/"], "--output: expected a file to write, found the folder /"),
        (["--workdir=RUN", "--output=."], "--output: expected a file to write, found the folder ."),
        (["--task_runs=rte=RUN,rte=RUN", "--dev"], "--task_runs: a task is named twice"),
        (["--saved_model=/none", "--dev"], "/none is no SavedModel: it has no saved_model.pb"),
        (["--workdir=/none", "--dev"], "/none is not a run directory"),
        (["--task_runs=rte", "--dev"], "--task_runs: expected task=RUN, found 'rte'"),
        (["--task_runs=sst=RUN", "--dev"], "run has no task 'sst'"),
        (["--server=127.0.0.1:1", "--dev", "--timeout=1"], "127.0.0.1:1, model 'default'"),
        (["--saved_model=MODEL", "--output=/proc/s.zip", "--missing=majority"], "cannot write /proc/"),
        (["--check=/none"], "cannot read /none: No such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_line(flags, message, workdir, exported, glue, tmp_path):
    given = {"RUN": str(workdir), "MODEL": str(exported)}
    done = submit(glue, *(re.sub("RUN|MODEL", lambda m: given[m[0]], flag) for flag in flags))
    assert done.returncode == 1
    assert message in error_line(done)
    assert not Path("s.zip").exists()


def test_the_command_checks_a_submission_of_others(submitted, glue, tmp_path):
    done = run("submit", f"--check={submitted[0]}")
    assert done.returncode == 0, done.stderr
    assert "warning: WNLI.tsv: every prediction is 0" in done.stderr
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for name, text in content(submitted[0]).items():
            archive.writestr(name, text.replace("\t", " ", 1) if name == "AX.tsv" else text)
    done = run("submit", f"--check={bad}", f"--glue_dir={glue}")
    assert done.returncode == 1
    *_, fault, error = done.stderr.splitlines()
    assert fault.startswith("fault: AX.tsv:1: expected the header")
    assert error == f"error: {bad}: GLUE would refuse it for 1 fault"
    (line,) = (line for line in done.stdout.splitlines() if " CoLA " in line)
    assert line.count(" %") == 4  # Shares of both labels, here and in train.


@pytest.mark.long
def test_a_model_whose_task_is_not_glues_is_told(tmp_path, glue):
    """A task of the user's own may have the name of one of GLUE's."""
    own = write_tasks(tmp_path / "data")["mood"]
    config = {
        "tasks": {"own": own},
        "encoder": {"pretrained": str(write_encoder(tmp_path / "encoder"))},
        "data": {"max_length": 24, "data_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "c")},
        "batch": {"rows": 4, "length": 48, "eval_rows": 4},
        "training": {"epochs": 1},
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config).replace("own:", "rte:"))
    done = run("train", f"--config={tmp_path / 'own.yaml'}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    done = submit(glue, f"--workdir={tmp_path / 'run'}", "--dev")
    assert done.returncode == 1
    assert "task 'rte' takes sentence; expected sentence1, sentence2" in done.stderr


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("rte", ("no", "yes"), "'rte' answers no, yes; expected not_entailment, entailment"),
        ("rte", (), "'rte' answers a score; expected not_entailment, entailment"),
        ("stsb", ("0", "1"), "'stsb' answers 0, 1; expected a score"),
    ],
)
def test_a_model_that_answers_other_than_glue_is_told_before_any_row(
    task, labels, message, models, glue
):
    model = models[task]
    other = replace(model, labels={**model.labels, task: labels})
    with pytest.raises(UserError, match=message):
        origins({**models, task: other}, glue)


@pytest.mark.long
def test_all_ways_know_the_labels_of_a_model(models, workdir):
    with of_runs([str(workdir)], {}) as of_run:
        for task, model in models.items():
            assert list(model.labels[task]) == list(of_run[task].labels[task])
    assert models["stsb"].labels["stsb"] == ()
    assert list(models["mnli"].labels["mnli"]) == ["contradiction", "neutral", "entailment"]


def test_the_majorities_are_those_of_the_real_files(glue_dir):
    for of_one in GLUE_FILES:
        if of_one.task in ("cola", "sst2", "mrpc", "rte", "wnli"):  # The others lack rows here.
            shares = train_shares(of_one, glue_dir)
            assert of_one.majority == max(shares, key=shares.get)
    scores = read_split(builtin_tasks()["stsb"], "train", glue_dir).labels
    assert FILES["STS-B"].majority == f"{scores.mean():.3f}"


@pytest.mark.parametrize("name", ["STS-B", "CoLA"])
def test_an_answer_that_is_no_number_is_never_submitted(name):
    """Not even as a label, which the most probable class of no numbers has as well."""
    of_one = FILES[name]
    task = builtin_tasks()[of_one.task]

    def call(signature, inputs, outputs=()):
        count = len(inputs[task.fields[0]])
        numbers = np.full([count], 0.5, np.float32)
        numbers[count // 2] = np.nan if count < BATCH_SIZE else 0.5
        label = np.full([count], task.labels[0].encode() if task.labels else b"", object)
        return {"score": numbers, "label": label, "probabilities": numbers[:, np.newaxis]}

    texts = {field: ["a text"] * (2 * BATCH_SIZE + 4) for field in task.fields}
    answered = answer(of_one, Model("tiny", "", {}, {}, call, 2), texts)
    assert len(next(answered)) == len(next(answered)) == BATCH_SIZE
    with pytest.raises(
        UserError, match=rf"tiny, {task.name}: .* row '{2 * BATCH_SIZE + 2}' is not a"
    ):
        next(answered)
