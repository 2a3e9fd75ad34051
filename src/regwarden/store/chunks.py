"""Cutting long lists of parameters into pieces that every database accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(values: Sequence[T], size: int = 500) -> Iterator[list[T]]:
    """Slices of at most ``size`` values, because databases limit the parameters of one statement."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
