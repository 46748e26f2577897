"""Element-wise functions of tensors as one loop over memory, by XLA."""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

from keras import KerasTensor, ops

from mtdnn_tf.modeling.placement import runs_op_by_op_on_cpu

Function = Callable[..., KerasTensor]


def fused(function: Function) -> Function:
    """Lets XLA compute a function, and its gradient, where each op would pass over memory by itself.

    That is in a graph of TensorFlow on CPU. A whole step is no faster by XLA there, since it is slower
    at matrix products. The gradient keeps the arguments alone and computes the rest again.

    Elsewhere the function runs as it is written; also where a shape is not known in the graph, as
    each would be compiled when it comes.

    Args:
        function: Tensors (or variables) to a tensor, by `keras.ops`; what is no tensor comes by
            keyword and can be hashed.
    """

    @wraps(function)
    def call(*values: KerasTensor, **settings: object) -> KerasTensor:
        tensors = [ops.convert_to_tensor(value) for value in values]
        if _can_be_fused(tensors):
            return _compiled(function, tuple(settings.items()))(*tensors)
        return function(*tensors, **settings)

    return call


def _can_be_fused(tensors: list[KerasTensor]) -> bool:
    if not runs_op_by_op_on_cpu():
        return False
    import tensorflow as tf

    return tf.inside_function() and all(tensor.shape.is_fully_defined() for tensor in tensors)


@lru_cache
def _compiled(function: Function, settings: tuple[tuple[str, object], ...]) -> Function:
    """The same for all layers that use the function, so that it is compiled once for a shape."""
    import tensorflow as tf

    compile_by_xla: Any = partial(tf.function, autograph=False, jit_compile=True)
    function = partial(function, **dict(settings))
    forward = compile_by_xla(function)

    @compile_by_xla
    def backward(tensors: tuple[tf.Tensor, ...], upstream: tf.Tensor) -> list[tf.Tensor | None]:
        floating = [tensor for tensor in tensors if tensor.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floating)
            result = function(*tensors)
        gradients = iter(tape.gradient(result, floating, upstream))
        return [next(gradients) if tensor.dtype.is_floating else None for tensor in tensors]

    @tf.custom_gradient
    def call(*tensors: tf.Tensor) -> tuple[tf.Tensor, Function]:
        return forward(*tensors), partial(backward, tensors)

    return call
