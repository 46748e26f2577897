"""Activations of a transformer block, by their Hugging Face names."""

import math

from keras import KerasTensor, ops


def activate(inputs: KerasTensor, name: str, training: bool | None = None) -> KerasTensor:
    """Applies `gelu` (exact), `gelu_new`, `gelu_pytorch_tanh` (both tanh) or `relu`."""
    if name == "relu":
        return ops.relu(inputs)
    if name == "gelu":
        return exact_gelu(inputs) if training else ops.gelu(inputs, approximate=False)
    return ops.gelu(inputs, approximate=True)


@ops.custom_gradient
def exact_gelu(x: KerasTensor) -> tuple[KerasTensor, object]:
    """`x * Phi(x)`, with its derivative `Phi(x) + x * phi(x)` written out.

    The derivative that TensorFlow finds makes a third more passes over the widest tensor of a block.
    """
    phi_integral = 0.5 * ops.erf(x * math.sqrt(0.5)) + 0.5

    def grad(*args: KerasTensor, upstream: KerasTensor | None = None) -> KerasTensor:
        upstream = args[0] if upstream is None else upstream
        density = ops.exp(-0.5 * ops.square(x)) * (1 / math.sqrt(2 * math.pi))
        return upstream * (phi_integral + x * density)

    return x * phi_integral, grad
