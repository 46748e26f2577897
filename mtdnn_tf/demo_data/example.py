"""One row of a task before it is laid out in columns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A labelled sentence or pair.

    Attributes:
        phenomenon: The rule that made it.
        texts: One sentence or two.
        label: A class name, or a score with three decimals.
    """

    phenomenon: str
    texts: tuple[str, ...]
    label: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two examples the same: the texts, whatever their case and order."""
        return tuple(sorted(text.lower() for text in self.texts))
