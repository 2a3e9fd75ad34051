"""How are sizes and counts put into sentences?"""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_bytes(size: int) -> str:
    """A size for people, 1024-based, about three digits: ``17 B``, ``1.24 GiB``, ``219 KiB``."""
    amount = float(size)
    for unit in _UNITS:
        if abs(amount) < 999.5 or unit == _UNITS[-1]:
            break
        amount /= 1024
    digits = 0 if unit == "B" or abs(amount) >= 99.95 else 1 if abs(amount) >= 9.995 else 2
    return f"{amount:.{digits}f} {unit}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 tag``, ``1,200 tags``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
