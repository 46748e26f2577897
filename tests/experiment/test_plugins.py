"""The examples of docs/extending.md, from training to the report; nothing of the package is edited.

Costs some 60 seconds: three trainings, one resume, one export.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  Its ops are in the exported graph.
import yaml
from harness.runs import error_line, run
from harness.tasks import OFTEN, write_experiment

import mtdnn_tf
from mtdnn_tf.experiment.samplers import SAMPLERS
from mtdnn_tf.tasks.heads import HEADS
from mtdnn_tf.tasks.kinds import KINDS
from mtdnn_tf.tasks.kinds.similarity import Similarity
from mtdnn_tf.tasks.metrics import METRICS

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text()
SPEC = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
PLUGINS = "--plugins=my_plugin"
REGISTRIES = (KINDS, HEADS, METRICS, SAMPLERS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's module, and an experiment with its task and `mood`."""
    folder = tmp_path_factory.mktemp("plugins")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    (folder / "my_plugin.py").write_text("\n".join(blocks))
    tree = yaml.safe_load(write_experiment(folder, training=OFTEN).read_text())
    tree["tasks"] = SPEC["tasks"] | {"mood": tree["tasks"]["mood"]}
    tree["mixture"] = SPEC["mixture"]
    (folder / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def trained(place):
    flags = ("--config=mine.yaml", "--workdir=run")
    done = run("train", PLUGINS, *flags, cwd=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def plugged(place, monkeypatch):
    """The plug-in in this process, taken out again at the end."""
    before = [dict(registry) for registry in REGISTRIES]
    exec(compile((place / "my_plugin.py").read_text(), "my_plugin", "exec"), {})
    yield
    for registry, items in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(items)


def dev_records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "dev"]


def test_it_trains_by_its_own_loss_metric_and_sampler(trained):
    records = map(json.loads, (trained / "run/metrics.jsonl").read_text().splitlines())
    first, *_ = [r["examples"] for r in records if r["kind"] == "train"]
    assert first["stars"] > 0
    for record in dev_records(trained / "run"):
        assert set(record["metrics"]["stars"]["dev"]) == {"within_one"}
    lines = (trained / "run/predictions/stars_dev.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["uid", "score", "gold"]
    scores, gold = np.array([line.split("\t")[1:] for line in lines[1:]], float).T
    best = max(dev_records(trained / "run"), key=lambda record: record["mean"])
    found = best["metrics"]["stars"]["dev"]["within_one"]
    assert found == pytest.approx(np.mean(np.abs(scores - gold) <= 1))


def test_a_resumed_run_is_the_unbroken_one(trained):
    flags = ("--config=mine.yaml", "--workdir=broken")
    script = f"""
import sys
sys.argv = ["train", "{PLUGINS}", "--config=mine.yaml", "--workdir=broken", "--noreport"]
from mtdnn_tf.training.step import Trainer
step, steps = Trainer.train, []
def stop_later(self, number):
    if len(steps) == 3:
        raise KeyboardInterrupt
    steps.append(number)
    return step(self, number)
Trainer.train = stop_later
from mtdnn_tf.binaries.train import main
main()
"""
    stopped = run("train", cwd=trained, script=script)
    assert stopped.returncode == 130, stopped.stderr
    done = run("train", PLUGINS, *flags, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    assert dev_records(trained / "broken") == dev_records(trained / "run")


def test_a_run_without_its_plug_in_says_what_it_lacks(trained):
    done = run("predict", "--workdir=run", "--task=stars", "--input=x.tsv", cwd=trained)
    assert done.returncode == 1
    assert "no kind is called 'rating'" in error_line(done)
    assert "--plugins=MODULE" in error_line(done)


def test_it_is_evaluated_predicted_and_reported(trained):
    done = run("evaluate", PLUGINS, "--workdir=run", "--output=metrics.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "within 1" in done.stdout
    (trained / "texts.tsv").write_text("text\nthe boat is bright .\nthe door is cold .\n")
    flags = ("--workdir=run", "--task=stars", "--input=texts.tsv", "--output=out.jsonl")
    done = run("predict", PLUGINS, *flags, cwd=trained)
    assert done.returncode == 0, done.stderr
    answers = list(map(json.loads, (trained / "out.jsonl").read_text().splitlines()))
    assert [set(answer) for answer in answers] == [{"uid", "score"}] * 2
    done = run("report", PLUGINS, "--workdir=run", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "Predicted scores against the right ones." in (trained / "run/report.html").read_text()


@pytest.mark.long
def test_it_is_exported_and_answers_as_in_memory(trained, plugged):
    done = run("export", PLUGINS, "--workdir=run", "--export_dir=exported", cwd=trained)
    assert done.returncode == 0, done.stderr
    texts = ["the boat is bright .", "the door is cold ."]
    served = tf.saved_model.load(str(trained / "exported/1")).signatures["stars"]
    in_memory = mtdnn_tf.load(trained / "run").predict("stars", texts)
    found = served(text=tf.constant(texts))["score"].numpy()
    np.testing.assert_allclose(found, [answer.score for answer in in_memory], atol=1e-5)


@pytest.mark.long
def test_it_is_distilled(trained):
    tree = yaml.safe_load((trained / "mine.yaml").read_text())
    tree["distillation"] = {"teachers": {"stars": ["run"]}}
    (trained / "student.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    done = run("train", PLUGINS, "--config=student.yaml", "--workdir=student", cwd=trained)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--plugins=not_there", "--plugins: not_there cannot be imported: No module named"),
        (
            "--plugins=broken_plugin",
            "--plugins: broken_plugin cannot be imported: division by zero",
        ),
        ("--plugins=", "--plugins: expected a value, found none"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_one_line(flag, message, place):
    (place / "broken_plugin.py").write_text("1 / 0\n")
    done = run("train", flag, "--config=mine.yaml", "--workdir=x", cwd=place)
    assert done.returncode == 1
    assert message in error_line(done)


def test_a_name_is_given_once():
    class Again(Similarity):
        """Another of the same name."""

    with pytest.raises(ValueError, match="a kind is called 'similarity' already"):
        mtdnn_tf.register(kind=Again())
