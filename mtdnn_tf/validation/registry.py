"""Objects that configs know by name; plug-ins add theirs."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from mtdnn_tf.errors import did_you_mean


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
        """The object of a name.

        Raises:
            ValueError: There is none.
        """
        if name not in self:
            raise ValueError(
                f"no {self.what} is called {name!r}{did_you_mean(str(name), self)}; "
                "one of a plug-in needs --plugins"
            )
        return self[name]
