"""What all tests share."""

import pytest

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained import resolve


@pytest.fixture(scope="session")
def minilm_dir():
    """The folder of the pre-trained all-MiniLM-L6-v2."""
    try:
        return resolve("all-MiniLM-L6-v2")
    except UserError as error:
        pytest.skip(str(error))
