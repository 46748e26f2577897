"""Objects that configs know by name, and what others add to them."""

import functools
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

from mtdnn_tf.errors import UserError, did_you_mean

PLUGINS = "mtdnn_tf.plugins"  # The entry points of installed packages that add theirs.


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """What configs call it."""


T = TypeVar("T", bound=Named)


class Registry(dict[str, T]):
    """Name to object.

    Args:
        what: What an object is called in messages.
        items: Those that come with the package.
    """

    def __init__(self, what: str, items: Iterable[T]) -> None:
        super().__init__({item.name: item for item in items})
        self.what = what

    def add(self, item: T) -> None:
        """Adds an object.

        Raises:
            ValueError: Another one has its name.
        """
        if self.setdefault(item.name, item) is not item:
            raise ValueError(f"a {self.what} is called {item.name!r} already")

    def find(self, name: str) -> T:
        """The object of a name; where there is none, installed plug-ins are loaded first.

        Raises:
            ValueError: There is none.
        """
        if name not in self:
            _load_installed()
        if name not in self:
            raise ValueError(
                f"no {self.what} is called {name!r}{did_you_mean(str(name), self)}; "
                "that of a plug-in needs --plugins=MODULE"
            )
        return self[name]


@functools.cache
def _load_installed() -> None:
    """Imports what installed packages name; never what a config or a run does."""
    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except Exception as error:
            raise UserError(f"the plug-in {point.value} cannot be loaded: {error}") from error
