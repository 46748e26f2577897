"""Named tensors into an encoder, whatever the format they come in."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertEncoder

Shape = tuple[int, ...]
_LAYER = re.compile(r"(?:^|[./])layer[._](\d+)[./]")
POOLER = ("pooler/kernel", "pooler/bias")


@dataclass(frozen=True)
class LoadReport:
    """What `load_encoder_weights` did, in the names of the format.

    Attributes:
        loaded: Tensors that were copied into the encoder.
        missing: Tensors of the pooler that the file lacks; their initial values were kept.
        unused: Known tensors that this encoder has no place for (heads and optimizer state of
            pre-training, `position_ids`, an unwanted pooler).
        unexpected: Tensors that are no part of BERT.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    unexpected: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How a format stores the variables of an encoder.

    A variable is named by its path in the encoder, such as `layer_3/attention/query/kernel`.

    Attributes:
        config_file: Name of the file that gave the sizes, for messages.
        tensor_name: From a variable's path to the name of its tensor.
        stored_shape: From a variable's path and shape to the shape of its tensor.
        is_known: Whether a tensor without a place in any encoder is nothing to worry about.
        transposed: Whether kernels are stored `[out, in]`; otherwise a tensor is the variable
            reshaped.
    """

    config_file: str
    tensor_name: Callable[[str], str]
    stored_shape: Callable[[str, Shape], Shape]
    is_known: Callable[[str], bool]
    transposed: bool = False


def load_weights(
    encoder: BertEncoder, folder: Path, tensors: Mapping[str, np.ndarray], layout: Layout
) -> LoadReport:
    """Copies tensors into an encoder, building it if need be.

    Args:
        encoder: Of the folder's own sizes.
        folder: Where the tensors come from, for messages.
        tensors: Tensors by their name in the format.
        layout: The format.

    Raises:
        UserError: A tensor is missing (the pooler may be) or of another shape, or there are more
            layers; nothing is copied.
    """
    paths = variable_paths(encoder)
    variables = {layout.tensor_name(path): variable for path, variable in paths.items()}
    pooler = {layout.tensor_name(path) for path in POOLER}
    missing = [name for name in variables if name not in tensors]
    if lost := [name for name in missing if name not in pooler]:
        more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
        raise UserError(f"{folder}: the weights lack {', '.join(lost[:8])}{more}")
    layers = encoder.config.num_layers
    for name in tensors:
        number = _LAYER.search(name)
        if (
            number
            and int(number[1]) >= layers
            and name not in variables
            and not layout.is_known(name)
        ):
            raise UserError(
                f"{folder}: {layout.config_file} has {layers} layers, but there is {name!r}"
            )
    arrays = {
        name: _fitted(folder, tensors[name], path, tuple(variable.shape), layout)
        for path, variable in paths.items()
        if (name := layout.tensor_name(path)) in tensors
    }
    for name, array in arrays.items():
        variables[name].assign(array)
    others = [name for name in tensors if name not in variables]
    unused = [name for name in others if name in pooler or layout.is_known(name)]
    return LoadReport(
        loaded=tuple(arrays),
        missing=tuple(missing),
        unused=tuple(unused),
        unexpected=tuple(name for name in others if name not in unused),
    )


def variable_paths(encoder: BertEncoder) -> dict[str, keras.Variable]:
    """An encoder's variables by their paths in it, building it if need be."""
    if not encoder.built:
        encoder.build()
    return {v.path.removeprefix(encoder.path + "/"): v for v in encoder.weights}


def _fitted(
    folder: Path, tensor: np.ndarray, path: str, shape: Shape, layout: Layout
) -> np.ndarray:
    """The tensor in the shape of its variable."""
    expected = layout.stored_shape(path, shape)
    if tensor.shape != expected:
        raise UserError(
            f"{folder}: tensor {layout.tensor_name(path)!r} has shape {list(tensor.shape)}; "
            f"expected {list(expected)} ({layout.config_file})"
        )
    transposed = layout.transposed and path.endswith("/kernel")
    return tensor.T if transposed else tensor.reshape(shape)
