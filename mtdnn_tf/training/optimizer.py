"""The papers' optimizer and its schedule."""

import keras

from mtdnn_tf.config import TrainingSettings

NO_WEIGHT_DECAY = ["bias", "gamma", "beta"]


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


def build_optimizer(
    settings: TrainingSettings, schedule: WarmupLinearDecay
) -> keras.optimizers.Optimizer:
    """Adamax or AdamW with decoupled weight decay, which leaves biases and LayerNorm out.

    Under `mixed_float16` it comes in Keras' `LossScaleOptimizer`. Clipping is the trainer's: it has
    to come after gradients are summed over replicas.
    """
    make = {"adamax": keras.optimizers.Adamax, "adamw": keras.optimizers.AdamW}[settings.optimizer]
    optimizer = make(schedule, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=NO_WEIGHT_DECAY)
    if settings.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
