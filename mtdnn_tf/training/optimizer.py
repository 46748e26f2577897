"""The papers' optimizer and its schedule."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mtdnn_tf.experiment.settings import TrainingSettings

NO_WEIGHT_DECAY = ["bias", "gamma", "beta"]
HEAD_PREFIX = "head_"  # Of the path of every variable of a head, see `build_mtdnn`.


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then linear decay to 0 at the last step.

    Args:
        peak: Highest learning rate.
        warmup_steps: Steps of warm-up; update i (from 0) uses `peak * (i + 1) / warmup_steps`.
        total_steps: Steps of the whole run.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int) -> None:
        super().__init__()
        self.peak, self.warmup_steps, self.total_steps = peak, warmup_steps, total_steps

    def __call__(self, step: int | keras.KerasTensor) -> keras.KerasTensor:
        """The learning rate of update `step`, counted from 0."""
        done = keras.ops.cast(step, "float32")
        warmup = (done + 1.0) / max(self.warmup_steps, 1)
        decay = (self.total_steps - done) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak * keras.ops.clip(keras.ops.minimum(warmup, decay), 0.0, 1.0)

    def get_config(self) -> dict[str, float | int]:
        """The arguments, for serialisation."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def learning_rate_schedule(settings: TrainingSettings, total_steps: int) -> WarmupLinearDecay:
    """The schedule of a run of `total_steps` updates."""
    warmup_steps = round(settings.warmup_proportion * total_steps)
    return WarmupLinearDecay(settings.learning_rate, warmup_steps, total_steps)


class _HeadsFaster:
    """An optimizer's mixin: the variables of heads learn at a multiple of its learning rate.

    Args:
        head_factor: The multiple.
    """

    def __init__(self, *args: Any, head_factor: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head_factor = head_factor

    def build(self, variables: list[keras.Variable]) -> None:
        """Notes which variables are those of heads, by their names."""
        super().build(variables)  # type: ignore[misc]
        self._is_head = [variable.path.startswith(HEAD_PREFIX) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: keras.KerasTensor) -> None:
        """Updates one variable."""
        if self._is_head[self._get_variable_index(variable)]:  # type: ignore[attr-defined]
            learning_rate = learning_rate * self.head_factor
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]


class _OnePassDecay:
    """An optimizer's mixin: weight decay passes over a variable once, in place of three times."""

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Multiplies what decays by 1 - learning rate * weight decay."""
        optimizer: Any = self
        if not optimizer.weight_decay:
            return
        factor = 1.0 - optimizer.learning_rate * optimizer.weight_decay

        def decay(variable: tf.Variable) -> None:
            if optimizer._use_weight_decay(variable):
                variable.assign(variable * factor)

        def on_all(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
            for variable in variables:
                strategy.extended.update(variable, decay, group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            on_all, tf.distribute.get_strategy(), [variable.value for variable in variables]
        )


class FusedAdamW(_OnePassDecay, keras.optimizers.AdamW):
    """Keras' AdamW, whose update is one pass over a variable in place of a dozen.

    The formula is the same; TensorFlow has a kernel of it.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: keras.KerasTensor) -> None:
        """Updates one variable."""
        index = self._get_variable_index(variable)
        done = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**done,
            beta2_power=self.beta_2**done,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedAdamax(_OnePassDecay, keras.optimizers.Adamax):
    """Keras' Adamax, whose update is one pass over a variable; see `FusedAdamW`."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: keras.KerasTensor) -> None:
        """Updates one variable."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdaMax(
            var=variable.handle,
            m=self._m[index].value.handle,
            v=self._u[index].value.handle,
            beta1_power=self.beta_1 ** tf.cast(self.iterations + 1, tf.float32),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class HeadsFasterAdamax(_HeadsFaster, FusedAdamax):
    """Adamax with a learning rate of its own for the heads."""


class HeadsFasterAdamW(_HeadsFaster, FusedAdamW):
    """AdamW with a learning rate of its own for the heads."""


def build_optimizer(
    settings: TrainingSettings, schedule: WarmupLinearDecay
) -> keras.optimizers.Optimizer:
    """Adamax or AdamW with decoupled weight decay, which leaves biases and LayerNorm out.

    Heads learn at `head_learning_rate`; the decay of their weights is at `learning_rate`, as the
    encoder's. Under `mixed_float16` it comes in Keras' `LossScaleOptimizer`. Clipping is the
    trainer's: it has to come after gradients are summed over replicas.
    """
    # Checkpoints go by the names; Keras' own count the optimizers of the process.
    makers: dict[str, tuple[Any, str]] = {
        "adamax": (HeadsFasterAdamax, "heads_faster_adamax"),
        "adamw": (HeadsFasterAdamW, "heads_faster_adam_w"),
    }
    make, name = makers[settings.optimizer]
    head_rate = settings.head_learning_rate or settings.learning_rate
    optimizer = make(
        schedule,
        weight_decay=settings.weight_decay,
        head_factor=head_rate / settings.learning_rate,
        name=name,
    )
    optimizer.exclude_from_weight_decay(var_names=NO_WEIGHT_DECAY)
    if settings.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
    return optimizer
