"""Which tables does a configuration file have? Read off the classes of the settings, so nothing is listed twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec

from regwarden.settings import Settings

_FIRST: Final = "defaults"
_LAST: Final = "registry"


@dataclass(frozen=True, slots=True)
class Section:
    """A table (``compat.regstat``), or one that may be repeated (``registry``), and the class of its settings."""

    path: str
    model: type[msgspec.Struct]
    is_repeated: bool = False

    @property
    def header(self) -> str:
        """How the table is begun in a file."""
        return f"[[{self.path}]]" if self.is_repeated else f"[{self.path}]"

    def tables(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The tables of this section in a checked document: none, one, or as often as it is repeated."""
        place: Any = document
        for step in self.path.split("."):
            place = place.get(step, {})
        return list(place) if self.is_repeated else [place]

    def value(self, settings: Settings) -> Any:
        """The section's settings: its class, or a tuple of it where it may be repeated."""
        place: Any = settings
        for step in self.path.split("."):
            place = getattr(place, step)
        return place


@cache
def sections() -> tuple[Section, ...]:
    """Every table of a configuration file, in the order in which they are explained."""
    order = {_FIRST: -1, _LAST: 1}
    return tuple(sorted(_below(Settings, ""), key=lambda section: order.get(section.path, 0)))


def own_fields(model: type[msgspec.Struct]) -> tuple[str, ...]:
    """The settings that are values, not tables."""
    return tuple(name for name, kind in _kinds(model).items() if _model_of(kind)[0] is None)


def tables_of(model: type[msgspec.Struct]) -> dict[str, tuple[type[msgspec.Struct], bool]]:
    """The tables directly below: the class of each, and whether it may be repeated."""
    found = {name: _model_of(kind) for name, kind in _kinds(model).items()}
    return {name: (inner, repeated) for name, (inner, repeated) in found.items() if inner is not None}


def _below(model: type[msgspec.Struct], path: str) -> Iterator[Section]:
    for name, (inner, is_repeated) in tables_of(model).items():
        if own_fields(inner):
            yield Section(f"{path}{name}", inner, is_repeated)
        yield from _below(inner, f"{path}{name}.")


@cache
def _kinds(model: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.__struct_fields__}


def _model_of(kind: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The class of a table or of repeated tables, if ``kind`` is one."""
    if get_origin(kind) is Annotated:
        return None, False
    is_repeated = get_origin(kind) is tuple
    inner = get_args(kind)[0] if is_repeated else kind
    return (inner, is_repeated) if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else (None, False)
