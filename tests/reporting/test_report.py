"""The report of a run: what it says is what the run's files say."""

import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import yaml
from harness.runs import error_line, run, some
from harness.tasks import OFTEN, add_answers, write_experiment
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from mtdnn_tf.data.sources import content_hash
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.bootstrap import paired_bootstrap
from mtdnn_tf.evaluation.prediction_files import DevPredictions
from mtdnn_tf.reporting import page as page_module
from mtdnn_tf.reporting.figures import answers
from mtdnn_tf.reporting.page import write_report
from mtdnn_tf.reporting.run_record import RunRecord, Split
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.metrics import compute
from mtdnn_tf.tasks.reliability import reliability
from mtdnn_tf.tasks.spec import TaskSpec


class Page(HTMLParser):
    """The cells of the tables of a page, its sources and links, and its text."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.sources, self.text = [], [], ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        self.sources += [value for key, value in attributes if key in ("src", "href")]

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = write_experiment(
        tmp_path_factory.mktemp("report"), batch={"rows": 4, "length": 96}, training=OFTEN
    )
    add_answers(path)
    return path


@pytest.fixture(scope="module")
def trained(experiment):
    """A run whose report `train` wrote, and what it printed."""
    workdir = experiment.parent / "run"
    done = run("train", f"--config={experiment}", f"--workdir={workdir}", "--report")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


@pytest.fixture(scope="module")
def other(experiment):
    workdir = experiment.parent / "other"
    done = run(
        "train", f"--config={experiment}", f"--workdir={workdir}", "--set=training.seed=1",
        "--set=training.epochs=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workdir


def test_training_ends_with_a_page_without_outside_resources(trained):
    workdir, printed = trained
    assert printed.splitlines()[-1] == f"report: {workdir / 'report.html'}"
    page = Page((workdir / "report.html").read_text())
    assert len(page.sources) > 10
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert "<script" not in (workdir / "report.html").read_text()


def test_the_pictures_lie_beside_the_page(trained):
    workdir, _ = trained
    names = {path.stem for path in (workdir / "report").iterdir()}
    curves = {"losses", "training", "examples", "dev_metrics"}
    assert names == curves | {f"{task}_dev" for task in ("mood", "same", "near", "answers")}
    for path in (workdir / "report").iterdir():
        picture = imread(path)
        assert min(picture.shape[:2]) > 100
        first = np.abs(picture[..., :3] - np.array([31, 119, 180]) / 255).max(axis=2) < 0.02
        assert first.sum() > 20, f"{path} shows nothing"


def test_it_has_the_metrics_of_the_best_and_of_the_last_epoch(trained):
    workdir, _ = trained
    page = Page((workdir / "report.html").read_text())
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    dev = [record for record in map(json.loads, lines) if record["kind"] == "dev"]
    best, last = max(dev, key=lambda record: record["mean"]), dev[-1]
    for task, metric, name, count in (
        ("mood", "accuracy", "accuracy", "32"), ("near", "pearson", "Pearson", "32"),
        ("answers", "mrr", "MRR", None),
    ):  # fmt: skip
        values = [f"{100 * r['metrics'][task]['dev'][metric]:.1f}" for r in (best, last)]
        (row,) = [r for r in page.rows if r[0] == task and r[2] == name]
        assert row[3:] == values
        assert count is None or row[1] == count


def test_it_says_how_many_texts_are_cut(trained):
    workdir, _ = trained
    data = json.loads((workdir / "data.json").read_text())
    page = Page((workdir / "report.html").read_text())
    assert "Texts are cut at 24 tokens" in page.text
    for split, of_split in data.items():
        counts = [str(of_split[k]) for k in ("examples", "cut", "median_length", "longest")]
        assert [split, *counts] in page.rows


def test_the_worst_answers_are_told_with_their_texts(trained, experiment):
    workdir, _ = trained
    record = RunRecord(workdir)
    page = Page((workdir / "report.html").read_text())
    (near,) = [split for split in record.splits if split.task.name == "near"]
    texts = [
        line.split("\t")
        for line in (experiment.parent / "data/near_dev.tsv").read_text().splitlines()
    ][1:]
    distance = np.abs(near.predictions.predictions - near.predictions.labels)
    order = np.argsort(-distance)[:10]
    expected = [
        [str(i), texts[i][0], texts[i][1], f"{near.predictions.labels[i]:.2f}",
         f"{near.predictions.predictions[i]:.2f}", f"{distance[i]:.2f}"]
        for i in order
    ]  # fmt: skip
    start = page.rows.index(["uid", "a", "b", "right", "answered", "distance"])
    assert page.rows[start + 1 : start + 11] == expected
    for split in record.splits:
        assert all(split.errors[row] > 0 for row in split.worst())


def test_pictures_are_those_of_the_page_of_the_same_name(trained, other, tmp_path):
    write_report(trained[0], output=tmp_path / "a.html")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    write_report(other, output=tmp_path / "b.html")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_runs_are_compared_on_the_same_examples(trained, other, tmp_path):
    workdir, _ = trained
    output = tmp_path / "both.html"
    done = run("report", f"--workdir={workdir}", other, f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written to {output}\n"
    page = Page(output.read_text())
    here, there = ({s.title: s for s in RunRecord(d).splits} for d in (workdir, other))
    start = page.rows.index(["task", "n", "metric", "this run", "the other", "difference"])
    rows = {(row[0], row[2]): row for row in page.rows[start + 1 : start + 9]}
    mine, theirs = (of["mood"].predictions for of in (here, there))
    values = [compute("accuracy", one.labels, one.predictions) for one in (mine, theirs)]
    gain = paired_bootstrap("accuracy", [theirs], [mine])
    assert rows["mood", "accuracy"][3:] == [
        *(f"{100 * value:.1f}" for value in values),
        f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
    ]
    assert gain.value == pytest.approx(values[1] - values[0])


def test_splits_of_other_examples_are_not_compared(trained, other, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "paired_bootstrap", partial(paired_bootstrap, resamplings=5))
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    path = copy / "predictions/mood_dev.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    (copy / "predictions/near_dev.tsv").unlink()
    page = Page(write_report(trained[0], [copy], output=tmp_path / "r.html").read_text())
    assert "Not compared: mood (other examples), near (this run alone answered it)." in page.text


def test_equal_uids_and_labels_do_not_make_the_same_examples(
    trained, other, experiment, tmp_path, monkeypatch
):
    """Uids are often the numbers of rows: what the rows were read from tells them apart."""
    monkeypatch.setattr(page_module, "paired_bootstrap", partial(paired_bootstrap, resamplings=5))
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    data = json.loads((copy / "data.json").read_text())
    data["mood/dev"]["content"] = "0" * 64
    (copy / "data.json").write_text(json.dumps(data))
    RunDirectory(copy).write_hashes()
    page = Page(write_report(trained[0], [copy], output=tmp_path / "r.html").read_text())
    assert "Not compared: mood (other examples)." in page.text
    folder = tmp_path / "data"
    shutil.copytree(experiment.parent / "data", folder)
    path = folder / "near_dev.tsv"
    path.write_text(path.read_text().replace("the ", "a "))
    text = write_report(trained[0], data_dir=str(folder), output=tmp_path / "r.html").read_text()
    assert "Without texts: near: the data is not that of the run" in Page(text).text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"labels": ["good", "bad", "fair"]}, "mood (labels bad, good here, good, bad, fair there)"),
        ({"kind": "ranking", "fields": ["query", "candidate"], "labels": ["bad", "good"],
          "metrics": ["mrr"], "score_metric": "mrr"},
         "mood (single_classification here, ranking there)"),
    ],
)  # fmt: skip
def test_other_tasks_of_the_same_name_are_not_compared(
    change, why, trained, other, tmp_path, monkeypatch
):
    monkeypatch.setattr(page_module, "paired_bootstrap", partial(paired_bootstrap, resamplings=5))
    theirs = RunRecord(other)
    tasks = {split.task.name: split for split in theirs.splits}
    mood = tasks["mood"]
    changed = replace(mood, task=mood.task.model_copy(update=change))
    theirs.splits = [changed if split is mood else split for split in theirs.splits]
    assert page_module._compare(RunRecord(trained[0]), theirs).left_out == [why]


def test_the_order_of_labels_does_not_matter_for_a_comparison(
    trained, other, tmp_path, monkeypatch
):
    monkeypatch.setattr(page_module, "paired_bootstrap", partial(paired_bootstrap, resamplings=50))
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    tree = yaml.safe_load((copy / "config.yaml").read_text())
    tree["tasks"]["mood"]["labels"].reverse()
    (copy / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False) + "# The end.\n")
    here = RunRecord(trained[0])
    mirrored, there = (
        {split.title: split.predictions for split in RunRecord(of).splits} for of in (copy, other)
    )
    np.testing.assert_array_equal(mirrored["mood"].labels, 1 - there["mood"].labels)
    rows = [page_module._compare(here, RunRecord(of)).rows for of in (copy, other)]
    assert rows[0] == rows[1]


def test_the_same_run_has_the_same_report(trained, tmp_path):
    workdir, _ = trained
    again = write_report(workdir, output=tmp_path / "report.html")
    assert again.read_bytes() == (workdir / "report.html").read_bytes()


def test_the_command_that_began_the_run_is_told(trained, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy, ignore=shutil.ignore_patterns("report*"))
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "/x/bin/mtdnn-train", "--set=a=b c"])
    directory = RunDirectory(copy)
    directory.write_experiment(directory.read_experiment())
    assert "mtdnn-train '--set=a=b c'" in Page(write_report(copy).read_text()).text
    (copy / "config.yaml").write_text(directory.config_file.read_text().split("\n", 1)[1])
    assert "begun by" not in Page(write_report(copy).read_text()).text


def test_without_the_data_there_are_no_texts_and_a_word_on_it(trained, tmp_path):
    page = write_report(trained[0], data_dir=str(tmp_path), output=tmp_path / "r.html").read_text()
    assert "Without texts: " in page
    assert ["uid", "right", "answered", "distance"] in Page(page).rows


def test_texts_and_names_are_shown_as_they_are(experiment, trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(experiment.parent / "data", data)
    path = data / "near_dev.tsv"
    path.write_text(path.read_text().replace("the ", "<b>the & ").replace(" .", "</table>"))
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    known = json.loads((copy / "data.json").read_text())
    near = RunDirectory(copy).read_experiment().tasks["near"]
    known["near/dev"]["content"] = content_hash(near, "dev", data).hex()
    (copy / "data.json").write_text(json.dumps(known))
    RunDirectory(copy).write_hashes()
    text = write_report(copy, data_dir=str(data), output=tmp_path / "r.html").read_text()
    assert "<b>" not in text
    assert "<b>the & " in Page(text).text


def test_a_run_that_has_only_begun_has_a_report(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy, ignore=shutil.ignore_patterns("predictions", "report*"))
    (copy / "metrics.jsonl").unlink()
    assert "Nothing was evaluated yet." in write_report(copy).read_text()


def test_what_is_no_run_is_told(tmp_path, trained):
    done = run("report", f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert error_line(done).startswith(f"error: {tmp_path} is not a run directory")
    done = run("report", "--workdir=")
    assert error_line(done).startswith("error: --workdir: expected a value, found none")
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write in .*report: File exists"):
        write_report(trained[0], output=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\n", "cannot read .*metrics.jsonl: 'utf-8' codec"),
        (b"[]\n", "metrics.jsonl:1: expected a record whose kind is train or dev"),
        (
            b'{"kind": "dev", "step": 1}\n',
            "metrics.jsonl:1: expected a dev record with epoch, mean,",
        ),
        (b"{\n", "cannot read .*metrics.jsonl: "),
    ],
)
def test_broken_records_are_told(content, message, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    (copy / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        write_report(copy)


@pytest.mark.parametrize("width", some([380, 1400], 380))
@pytest.mark.parametrize("tasks", some([1, 10], 10))
def test_it_fits_narrow_and_wide_windows(width, tasks, experiment, trained, browser, tmp_path):
    """With one task and with ten; tables and pictures scroll by themselves."""
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    tree = yaml.safe_load((copy / "config.yaml").read_text())
    mood = tree["tasks"]["mood"]
    names = [f"mood_{number}" for number in range(tasks)]
    tree["tasks"] = {name: mood | {"name": name} for name in names}
    (copy / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False) + "# The end.\n")
    for file in (copy / "metrics.jsonl", *(copy / "checkpoints/best").glob("*.json")):
        records = list(map(json.loads, file.read_text().splitlines()))
        for record in records:
            for key in ("loss", "examples", "metrics", "scores"):
                if key in record:
                    record[key] = dict.fromkeys(names, record[key]["mood"])
        file.write_text("".join(json.dumps(r) + "\n" for r in records))
    for name in names:
        shutil.copy(copy / "predictions/mood_dev.tsv", copy / f"predictions/{name}_dev.tsv")
    browser.set_window_size(width, 900)
    browser.get(write_report(copy).as_uri())
    shown = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.execute_script(shown)
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)")
    assert len(re.findall(r"<h2 id=.mood_", browser.page_source)) == tasks


@given(st.integers(2, 4), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_calibration_error_is_what_its_definition_says(classes, seed, examples):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), examples)
    labels = rng.integers(classes, size=examples)
    found = reliability(labels, probabilities)
    error = 0.0
    for low in np.arange(10) / 10:
        here = (probabilities.max(1) >= low) & (probabilities.max(1) < low + 0.1)
        if here.any():
            right = (probabilities.argmax(1) == labels)[here].mean()
            error += here.mean() * abs(right - probabilities.max(1)[here].mean())
    assert found.error == pytest.approx(error, abs=1e-9)
    assert found.count.sum() == examples


def test_a_certain_answer_is_in_the_last_bin():
    found = reliability(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert found.count.tolist() == [2]
    assert found.error == pytest.approx(0.5)


@pytest.mark.parametrize(("count", "written"), [(2, 4), (16, 256), (17, 0), (60, 0)])
def test_a_confusion_of_many_labels_has_no_numbers_and_room_for_their_names(count, written):
    names = tuple(f"topic {number}" for number in range(count))
    task = TaskSpec(
        name="topics", kind="single_classification", fields=("text",), labels=names,
        metrics=("accuracy",), splits={},
    )  # fmt: skip
    right = np.arange(3 * count) % count
    said = np.where(right == 0, 1, right)  # The first is always taken for the second.
    found = DevPredictions(
        uids=[str(row) for row in right], labels=right, predictions=said,
        probabilities=np.eye(count)[said], groups=None,
    )  # fmt: skip
    figure = answers(Split(task, "dev", found))
    axes = figure.axes[0]
    assert len(axes.texts) == written
    expected = np.eye(count)
    expected[0, :2] = 0, 1
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    FigureCanvasAgg(figure).draw()
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == list(names)
    boxes = sorted((tick.get_window_extent() for tick in ticks), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    # Those of x are rotated: their lines of text need as much room as those of y.
    (first, _), (second, _) = axes.transData.transform([(0, 0), (1, 0)])
    assert second - first >= boxes[0].height - 1
