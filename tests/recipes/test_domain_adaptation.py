"""The tool that compares two starts on parts of a task."""

import json

import numpy as np
import pytest
import yaml
from harness.runs import error_line, run
from harness.tasks import write_experiment

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import Subset
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.recipes.domain_adaptation import DomainAdaptation


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A multi-task run without the task `mood`, and a config of `mood` alone."""
    folder = tmp_path_factory.mktemp("adaptation")
    path = write_experiment(folder, training={"epochs": 1})
    tree = yaml.safe_load(path.read_text())
    mood = tree["tasks"].pop("mood")
    (folder / "others.yaml").write_text(yaml.safe_dump(tree))
    tree["tasks"] = {"mood": mood}
    (folder / "mood.yaml").write_text(yaml.safe_dump(tree))
    done = run("train", f"--config={folder / 'others.yaml'}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder


def adapt(setting, workdir, *flags):
    return run(
        "adapt",
        f"--config={setting / 'mood.yaml'}",
        f"--init_from={setting / 'run'}",
        f"--workdir={workdir}",
        *flags,
    )


@pytest.fixture(scope="module")
def adapted(setting):
    done = adapt(setting, setting / "out", "--counts=40,12", "--samplings=2")
    assert done.returncode == 0, done.stderr
    return setting / "out", done.stdout


@pytest.mark.long
def test_each_size_start_and_sampling_is_a_run_of_its_own(adapted, setting):
    workdir, _ = adapted
    for start, origin in (("plain", None), ("multi_task", str(setting / "run"))):
        keys = set()
        for size in (12, 40):
            for sampling in (0, 1):
                one = workdir / start / str(size) / f"sampling_{sampling}"
                config = yaml.safe_load((one / "config.yaml").read_text())
                assert config["init"]["run"] == origin
                assert config["training"]["seed"] == sampling
                data = json.loads((one / "data.json").read_text())
                assert data["mood/train"]["examples"] == size
                keys.add(data["mood/train"]["key"])
        assert len(keys) == 4, "every sampling is another part of the examples"


@pytest.mark.long
def test_both_starts_see_the_same_examples(adapted):
    workdir, _ = adapted
    keys = [
        json.loads((workdir / start / "12/sampling_1/data.json").read_text())["mood/train"]["key"]
        for start in ("plain", "multi_task")
    ]
    assert keys[0] == keys[1]


@pytest.mark.long
def test_the_results_are_those_of_the_runs(adapted):
    workdir, printed = adapted
    results = json.loads((workdir / "results.json").read_text())
    assert [(p["start"], p["examples"]) for p in results["points"]] == [
        ("plain", 12), ("multi_task", 12), ("plain", 40), ("multi_task", 40),
    ]  # fmt: skip
    for point in results["points"]:
        scores = []
        for sampling in (0, 1):
            one = workdir / point["start"] / str(point["examples"]) / f"sampling_{sampling}"
            last = json.loads((one / "metrics.jsonl").read_text().splitlines()[-1])
            scores.append(last["mean"])
        assert point["scores"] == pytest.approx(scores)
        assert point["mean"] == pytest.approx(np.mean(scores))
        assert point["deviation"] == pytest.approx(np.std(scores, ddof=1))
        assert point["n"] == 2
        cell = f"{100 * point['mean']:.1f} ± {100 * point['deviation']:.1f}"
        assert cell in printed
        assert f"| {point['examples']} | 2 | " in (workdir / "results.md").read_text()
        assert f" {cell} |" in (workdir / "results.md").read_text()
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_it_goes_on_without_training_again(adapted, setting):
    workdir, printed = adapted
    again = adapt(setting, workdir, "--counts=12,40", "--samplings=2")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is trained already") == 8
    assert again.stdout.splitlines()[-5:] == printed.splitlines()[-5:]


@pytest.mark.long
def test_parts_may_be_fractions(setting, tmp_path):
    done = adapt(setting, tmp_path, "--fractions=0.25", "--samplings=1")
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "results.json").read_text())["points"]
    assert [(p["start"], p["examples"], p["n"]) for p in points] == [
        ("plain", 24, 1), ("multi_task", 24, 1),
    ]  # fmt: skip
    assert [p["deviation"] for p in points] == [0, 0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--counts=3", "--fractions=0.1"], "give --fractions or --counts, one of them"),
        (["--counts=many"], "--counts: 'many' is not a count; expected a whole number from 1"),
        (
            ["--fractions=1.5"],
            "--fractions: '1.5' is not a fraction; expected above 0 and at most 1",
        ),
        (["--fractions=0.001"], "data.subsets.mood: 0 examples, expected 1 to 96"),
        (["--counts=1"], "draws have none labelled"),
    ],
)
def test_a_mistake_is_told_in_a_line(setting, flags, message, tmp_path):
    done = adapt(setting, tmp_path / "out", *flags)
    assert done.returncode == 1
    assert message in error_line(done)


def test_it_takes_one_task(setting, tmp_path):
    experiment = load_experiment(setting / "others.yaml")
    with pytest.raises(UserError, match="takes a config of one task, not of near, same"):
        DomainAdaptation(experiment, "run", [Subset(count=5)], 1, tmp_path)
