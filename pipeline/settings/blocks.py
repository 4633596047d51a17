"""The models' blocks of params.yaml, each checked when somebody asks for it: who needs one model waits for no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from pipeline.errors import SettingsError

Block = TypeVar("Block")


class Blocks(Generic[Block]):
    """The blocks by name; `read` makes a block or its fault of one's values, once."""

    def __init__(self, raw: Mapping[Any, Any], read: Callable[[Any], Block | SettingsError]) -> None:
        # A name that is no text, which is a fault, is known by its text.
        self.names = {str(name): name for name in raw}
        self._read = read
        self._known: dict[str, Block | SettingsError] = {}

    def of(self, name: str) -> Block | SettingsError | None:
        """None for a name that is not there."""
        if name in self.names and name not in self._known:
            self._known[name] = self._read(self.names[name])
        return self._known.get(name)


class RightBlocks(Mapping[str, Block]):
    """The blocks without a fault, by model; each is read when it is first asked for. Raises KeyError for one with a
    fault, too."""

    def __init__(self, blocks: Blocks[Block]) -> None:
        self._blocks = blocks

    def __getitem__(self, name: str) -> Block:
        found = self._blocks.of(name)
        if found is None or isinstance(found, SettingsError):
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._blocks.names if not isinstance(self._blocks.of(name), SettingsError))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class BrokenBlocks(Mapping[str, SettingsError]):
    """The faults of the blocks that have some."""

    def __init__(self, blocks: Blocks[Any]) -> None:
        self._blocks = blocks

    def __getitem__(self, name: str) -> SettingsError:
        found = self._blocks.of(name)
        if not isinstance(found, SettingsError):
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._blocks.names if isinstance(self._blocks.of(name), SettingsError))

    def __len__(self) -> int:
        return sum(1 for _ in self)
