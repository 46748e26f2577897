"""Which vector of an example an encoder was made to give, as its folder says."""

from collections.abc import Callable
from pathlib import Path

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling.bert import Pooling
from mtdnn_tf.pretrained.config_file import read_json

POOLING_FILE = "1_Pooling/config.json"  # Of sentence-transformers.
DENSE_FILE = "2_Dense/config.json"  # Of a layer after the pooling.
_MODE = "pooling_mode"
_KNOWN: dict[str, Pooling] = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "cls": "cls",
    "mean": "mean",
}


def pooling_of(folder: Path, has_pooler: Callable[[Path], bool]) -> tuple[Pooling, str]:
    """The pooling that a folder's encoder was trained with.

    Args:
        folder: The encoder's.
        has_pooler: Whether a folder's weights have BERT's pooler.

    Returns:
        The pooling, and what says so; a layer after it, which is not taken, is told. Without a
        file of sentence-transformers it is BERT's own, or the mean where there is no trained pooler.

    Raises:
        UserError: The file can't be read, or the pooling is another.
    """
    path = folder / POOLING_FILE
    if path.is_file():
        without = " (without its 2_Dense)" if (folder / DENSE_FILE).is_file() else ""
        return _read(path), POOLING_FILE + without
    if has_pooler(folder):
        return "cls_pooler", "the weights, which have a pooler"
    return "mean", "the weights, which have no pooler"


def _read(path: Path) -> Pooling:
    """Reads `pooling_mode_mean_tokens: true`, or `pooling_mode: mean` of later versions."""
    values = read_json(path)
    modes = [
        key.removeprefix(f"{_MODE}_")
        for key, value in values.items()
        if key.startswith(f"{_MODE}_") and value is True
    ]
    named = values.get(_MODE, [])
    modes += map(str, named if isinstance(named, list) else [named])
    poolings = {_KNOWN.get(mode) for mode in modes}
    if len(poolings) != 1 or (pooling := poolings.pop()) is None:
        raise UserError(
            f"{path}: the pooling is {' and '.join(modes) or 'not said'}; expected cls_token "
            "or mean_tokens alone; set encoder.pooling to train with another one"
        )
    return pooling
