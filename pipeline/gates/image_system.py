"""What a serving image has of its distribution below our packages: it is read by the engine, listed with the version, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class SystemPackage:
    """A package of the distribution. It was built from `source` in the version `source_version`, by which security teams name it.

    `licences` are those that its own file names, in Debian's words (GPL-2+, Expat), each once; () where the file does not say.
    """

    name: str
    version: str
    architecture: str
    source: str = ""
    source_version: str = ""
    licences: tuple[str, ...] = ()

    @property
    def built_from(self) -> tuple[str, str]:
        """(the source's name, its version); the package's own where dpkg names no other."""
        return self.source or self.name, self.source_version or self.version


@dataclass(frozen=True)
class ImageSystem:
    """`image` is the id of the image; the distribution is named as in its os-release (debian, 12)."""

    image: str
    distribution: str
    release: str
    packages: tuple[SystemPackage, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads `as_dict` back, also after JSON. Raises KeyError or TypeError for another form."""
        packages = (SystemPackage(**{**each, "licences": tuple(each["licences"])}) for each in values["packages"])
        return cls(values["image"], values["distribution"], values["release"], tuple(packages))


@dataclass(frozen=True)
class ServingSystem:
    """What would serve a version now: the `engine`, why that one, and the digest of its image as an approval has it. `system` is None
    where there is no image, or one that does not tell."""

    engine: str
    why: str
    image: str
    system: ImageSystem | None = None

    @property
    def has_image(self) -> bool:
        return self.engine != "process"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads `as_dict` back, also after JSON. Raises KeyError or TypeError for another form."""
        system = values["system"]
        return cls(values["engine"], values["why"], values["image"], ImageSystem.read(system) if system else None)
