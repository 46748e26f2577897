"""How often each task is seen in an epoch, a class for each `mixture.mode`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtdnn_tf.validation.registry import Registry

if TYPE_CHECKING:
    from mtdnn_tf.experiment.settings import MixtureSettings


class Sampler(ABC):
    """The share of each task in an epoch, a pure function of the epoch.

    Attributes:
        name: What `mixture.mode` calls it.
    """

    name: str

    def check(self, settings: MixtureSettings) -> None:
        """Raises a ValueError where the settings do not fit."""
        if settings.weights:
            raise ValueError("weights are needed with mode: weights, and only there")

    @abstractmethod
    def shares(
        self, settings: MixtureSettings, sizes: Mapping[str, int], epoch: int, epochs: int
    ) -> Sequence[float] | np.ndarray | None:
        """The share of each task, in any unit; None sees every example of all tasks once.

        Args:
            settings: The mixture.
            sizes: Task name to its number of training examples.
            epoch: Number of the epoch, from 0.
            epochs: Number of epochs of the run.
        """


class Proportional(Sampler):
    """Every example once an epoch."""

    name = "proportional"

    def check(self, settings: MixtureSettings) -> None:
        """See `Sampler`."""
        super().check(settings)
        if settings.examples_per_epoch is not None:
            raise ValueError(
                "examples_per_epoch does not go with mode: proportional, "
                "which sees every example once"
            )

    def shares(
        self, settings: MixtureSettings, sizes: Mapping[str, int], epoch: int, epochs: int
    ) -> None:
        """See `Sampler`."""


class Powers(Sampler):
    """In proportion to a power of the size."""

    def exponent(self, settings: MixtureSettings, epoch: int, epochs: int) -> float:
        """The power; 0 is alike for all tasks."""
        return 0.0

    def shares(
        self, settings: MixtureSettings, sizes: Mapping[str, int], epoch: int, epochs: int
    ) -> np.ndarray:
        """See `Sampler`."""
        exponent = self.exponent(settings, epoch, epochs)
        return np.array(list(sizes.values()), np.float64) ** exponent


class Uniform(Powers):
    """Alike for all tasks."""

    name = "uniform"


class Temperature(Powers):
    """The power is 1 / `temperature`."""

    name = "temperature"

    def exponent(self, settings: MixtureSettings, epoch: int, epochs: int) -> float:
        """See `Powers`."""
        return 1.0 / settings.temperature


class Annealed(Powers):
    """The power goes linearly from 1 in the first epoch to `annealed_floor` in the last."""

    name = "annealed"

    def exponent(self, settings: MixtureSettings, epoch: int, epochs: int) -> float:
        """See `Powers`."""
        done = epoch / (epochs - 1) if epochs > 1 else 0.0
        return 1.0 - (1.0 - settings.annealed_floor) * done


class Weights(Sampler):
    """The number that `weights` gives each task."""

    name = "weights"

    def check(self, settings: MixtureSettings) -> None:
        """See `Sampler`."""
        if not settings.weights:
            raise ValueError("weights are needed with mode: weights, and only there")

    def shares(
        self, settings: MixtureSettings, sizes: Mapping[str, int], epoch: int, epochs: int
    ) -> list[float]:
        """See `Sampler`."""
        return [settings.weights[name] for name in sizes]


SAMPLERS: Registry[Sampler] = Registry(
    "sampler", (Proportional(), Temperature(), Uniform(), Annealed(), Weights())
)
