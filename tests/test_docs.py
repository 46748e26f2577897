"""The documentation says what is so."""

import importlib
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
import requests
import yaml
from absl import flags

from mtdnn_tf.experiment.file import build_experiment, load_experiment
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.pretrained.resolver import PACKAGED
from mtdnn_tf.tasks import builtin_tasks

if "TEST_SRCDIR" in os.environ:
    pytest.skip("Bazel's tests do not see all files that are named", allow_module_level=True)
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_reference_is_as_the_code_has_it():
    tool = runpy.run_path(str(ROOT / "tools/update_docs.py"))
    text = (ROOT / "docs/reference.md").read_text()
    assert text == tool["reference"](), "run `python tools/update_docs.py`"


def test_the_reference_explains_every_setting_and_lists_every_task():
    text = (ROOT / "docs/reference.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    without = [row for row in rows if row.endswith("|  |") and "`description`" not in row]
    assert without == []
    for section, field in Experiment.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            part = text.partition(f"\n## `{section}`\n")[2].partition("\n## ")[0]
            for name in field.annotation.model_fields:
                assert f"| `{name}` |" in part, f"{section}.{name}"
    for name in builtin_tasks():
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith(("http://", "https://")):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    pattern = r"(?<![\w/.-])(?:benchmarks|configs|tools|mtdnn_tf|tests)/[\w./]+\.\w+"
    for name in re.findall(pattern, path.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(("file", "number"), [("encoder", 0), ("encoder-other", 1)])
def test_make_installs_the_packages_that_the_resolver_knows(file, number):
    text = (ROOT / f"requirements-{file}.txt").read_text()
    (package,) = re.findall(r"^(\S+) --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    (packages,) = PACKAGED.values()
    assert package == packages[number].requirement


def commands(path):
    """The commands of our own in a page's blocks of shell, in order."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.search(r"\bmtdnn-|python (?:tools|benchmarks)/", line)]


def defined_flags(program):
    """The flags of a command, or of the file of a benchmark or tool."""
    if program.endswith(".py"):
        define = runpy.run_path(str(ROOT / program))["_define_flags"]
    else:
        name = program.removeprefix("mtdnn-").replace("-", "_")
        define = importlib.import_module(f"mtdnn_tf.binaries.{name}")._define_flags
    before = set(flags.FLAGS)
    define()
    names = set(flags.FLAGS) - before
    for name in names:
        delattr(flags.FLAGS, name)
    return names | {"plugins", "traceback"}  # Of every command.


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_have_flags_that_there_are(path):
    for command in commands(path):
        words = shlex.split(command, comments=True)
        names = [Path(word).name for word in words]
        first = next(i for i, name in enumerate(names) if re.match(r"python$|mtdnn-", name))
        program = words[first + 1] if names[first] == "python" else names[first]
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        assert given <= defined_flags(program), command


def test_the_settings_that_the_readme_shows_fit_its_config():
    (line,) = re.findall(r"^\.\.\. (--set=.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    settings = [word.removeprefix("--set=") for word in shlex.split(line)]
    load_experiment(ROOT / "configs/glue_minilm.yaml", settings, "glue_data")


# What keeps a command of the README short enough to be run here.
SMALL = [f"data.subsets.{task}.count=60" for task in ("cola", "sst2", "mrpc", "stsb", "rte")]
SHORTENED = {
    "mtdnn-train --config=configs/glue": ["training.epochs=1", "mixture.examples_per_epoch=300"],
    "mtdnn-train": ["training.epochs=1", "data.subsets.sst2.count=100"],
    "mtdnn-finetune": ["training.epochs=1", *SMALL],
}
RUN_PAGES = ("README.md", "docs/serving.md", "docs/performance.md")
NOT_RUN = {  # Those of other pages are of hours, of several devices, or of runs that are not there.
    "mtdnn-distill": "takes hours; tests/recipes/test_recipe.py carries out a small recipe",
    "uncased_L-12_H-768_A-12": "Google's; tests/pretrained/test_checkpoint_formats.py writes such files",
    "benchmarks/load.py": "tests/test_long.py runs it",
    "benchmarks/serving.py": "needs the extra [bench]",
    "--canary=2": "needs a second version; tests/serving/test_server_config.py has it",
    "benchmarks/training.py": "needs the extra [bench]",
    "benchmarks/pipeline.py": "tests/test_long.py runs it",
    "--parts=5": "takes a quarter of an hour; a shorter one is run",
}


@pytest.mark.parametrize("number", range(len(re.findall("```yaml", README))))
def test_the_settings_in_yaml_are_settings(number):
    block = textwrap.dedent(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[number])
    tree = yaml.safe_load(block)
    build_experiment(tree if "tasks" in tree else {"tasks": tree}, "README.md")


def _wait_for(url, server):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if "AVAILABLE" in requests.get(url, timeout=10).text:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def place(glue_dir, minilm_dir, tmp_path):
    """A folder where the README's commands can be run, with the files that they name."""
    for name in ("benchmarks", "configs", "tools", ".venv", "mtdnn_tf"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "glue_data").symlink_to(glue_dir)
    own = tmp_path / "folder_of_the_files"
    own.mkdir()
    (own / "SST-2").symlink_to(glue_dir / "SST-2")
    for split in ("train", "dev"):
        rows = ["How do I open it?\tquestion", "It broke.\tcomplaint", "I like it.\tpraise"] * 4
        (own / f"tickets_{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    configs = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(next(text for text in configs if "tickets" in text))
    (tmp_path / "pairs.tsv").write_text("sentence1\tsentence2\nA dog sleeps.\tAn animal sleeps.\n")
    return tmp_path


@pytest.mark.long
def test_the_commands_of_the_readme_and_of_docs_run(place):
    ran, servers = [], []
    of_pages = [command for page in RUN_PAGES for command in commands(ROOT / page)]
    try:
        for command in dict.fromkeys(of_pages):
            if any(part in command for part in NOT_RUN):
                continue
            sets = next((sets for part, sets in SHORTENED.items() if part in command), [])
            words = [*shlex.split(command, comments=True), *(f"--set={one}" for one in sets)]
            if "mtdnn-serve" in command:
                servers.append(subprocess.Popen(words, cwd=place))
                _wait_for("http://localhost:8501/v1/models/glue", servers[-1])
                continue
            done = subprocess.run(words, cwd=place, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
            ran.append(command)
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    assert len(ran) == 18
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [".venv/bin/python", "-c", script], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((place / "metrics.json").read_text())["metrics"].keys() >= {"rte", "cola"}
    assert (place / "answers.tsv").read_text().startswith("uid\tlabel\t")
    assert os.path.getsize(place / "submission.zip") > 1_000_000
