"""A run of the first version, which every later one reads: tests/runs/old_run.

It was stopped after 8 of its 10 steps. Never write it anew; what a later version leaves can be put
beside it.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from harness.runs import run

import mtdnn_tf
from mtdnn_tf.runs.directory import RunDirectory

OLD = Path(__file__).parent / "old_run"


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A copy, for no test may change the run."""
    return shutil.copytree(OLD, tmp_path_factory.mktemp("old") / "old_run")


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_it_predicts_what_it_predicted(old):
    loaded = mtdnn_tf.load(old / "run")
    moods = loaded.predict("mood", [row["sentence"] for row in rows(old / "data/mood_dev.tsv")])
    pairs = [(row["a"], row["b"]) for row in rows(old / "data/near_dev.tsv")]
    found = {
        "mood": ("probability_good", [answer.probabilities["good"] for answer in moods]),
        "near": ("score", [answer.score for answer in loaded.predict("near", pairs)]),
    }
    for task, (column, numbers) in found.items():
        stored = [float(row[column]) for row in rows(old / f"run/predictions/{task}_dev.tsv")]
        np.testing.assert_allclose(numbers, stored, rtol=0, atol=1e-5)


@pytest.mark.long
def test_its_command_goes_on(old):
    """From the step that it was stopped at; settings and data are recognised as its own."""
    flags = ["--config=experiment.yaml", "--workdir=run", f"--set=data.cache_dir={old / 'cache'}"]
    done = run("train", *flags, cwd=old)
    assert done.returncode == 0, done.stderr
    assert "going on from step 8" in done.stdout
    records = RunDirectory(old / "run").metrics.read()
    assert [record["step"] for record in records] == [3, 5, 5, 8, 10, 10]
