"""What all tests share."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest
from harness.runs import NO_DROPOUT, NO_HEAD_DROPOUT, run
from harness.servers import QUIET
from harness.tasks import write_all_kinds

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained import resolve

# A busy machine is no fault: there is no deadline. `make check-long` takes the second profile.
for profile, examples in (("quick", 25), ("thorough", 100)):
    hypothesis.settings.register_profile(profile, deadline=None, max_examples=examples)
hypothesis.settings.load_profile("quick")


# Files of few but long tests: begun first, so that no process is left alone with one at the end.
LONGEST = ("resume", "teaching", "recipe", "workers", "export", "replicas", "domain_adaptation")


def pytest_collection_modifyitems(items):
    """Puts the longest files first; the others keep their order."""
    rank = {f"test_{name}.py": position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def minilm_dir():
    """The folder of the pre-trained all-MiniLM-L6-v2."""
    try:
        return resolve("all-MiniLM-L6-v2")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data sets: `$MTDNN_DATA_DIR`, or `../shared/data` beside the repository."""
    folder = os.environ.get("MTDNN_DATA_DIR") or Path(__file__).parents[1] / "../shared/data"
    if not Path(folder).is_dir():
        pytest.skip(f"no real data: {folder} is not there (set MTDNN_DATA_DIR)")
    return Path(folder)


@pytest.fixture(scope="session")
def glue_dir(data_dir):
    """The folder of the GLUE files."""
    return data_dir / "glue"


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Selenium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in QUIET.split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def one_replica(tmp_path_factory):
    """The config of a run without dropout, and the run on one replica."""
    folder = tmp_path_factory.mktemp("one")
    path = write_all_kinds(folder, **NO_DROPOUT)
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}", *NO_HEAD_DROPOUT)
    assert done.returncode == 0, done.stderr
    return path, folder / "run"
