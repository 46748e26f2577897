"""What all tests share."""

import os
from pathlib import Path

import hypothesis
import pytest

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained import resolve

hypothesis.settings.register_profile("no deadline", deadline=None)  # A busy machine is no fault.
hypothesis.settings.load_profile("no deadline")


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
