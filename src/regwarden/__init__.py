"""Inventory, usage, search, safe cleanup and allow-lists for container registries.

The names exported here are the public Python interface: they keep their meaning within a major version. Everything
else may change. Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from regwarden._version import __version__

if TYPE_CHECKING:
    from regwarden.errors import (
        Conflict,
        InputError,
        NotFound,
        RegistryDenied,
        RegistryError,
        RegistryUnreachable,
        RegwardenError,
        StoreError,
    )
    from regwarden.library import Inventory, Row, connect

__all__ = [
    "Conflict",
    "InputError",
    "Inventory",
    "NotFound",
    "RegistryDenied",
    "RegistryError",
    "RegistryUnreachable",
    "RegwardenError",
    "Row",
    "StoreError",
    "__version__",
    "connect",
]

_LIBRARY = frozenset({"Inventory", "Row", "connect"})


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("regwarden.library" if name in _LIBRARY else "regwarden.errors"), name)
