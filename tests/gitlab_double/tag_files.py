"""How does Distribution keep a tag in files? One folder with a link to what it points to, and links to what it did."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ALGORITHM = "sha256"


class StoredTag(NamedTuple):
    """A tag. Times are seconds since 1970; ``updated_at`` is ``None`` if it was never moved."""

    name: str
    digest: str
    created_at: float
    updated_at: float | None

    @property
    def published_at(self) -> float:
        return max(self.created_at, self.updated_at or 0.0)


def read_tag(folder: Path, name: str) -> StoredTag | None:
    """The tag in the folder of all tags; ``None`` if it is not there, or half written.

    It was made when its own folder was, and moved if it has more than one former manifest, or a later link.
    """
    place = folder / name
    former = place / "index" / ALGORITHM
    try:
        with (place / "current" / "link").open("rb") as link:
            digest = link.read().decode()
            moved_at = os.fstat(link.fileno()).st_mtime
        created_at = place.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    count = 0
    with suppress(FileNotFoundError):  # a recorded root may lack what only the history needs
        count = former.stat().st_nlink - 2
        if count < 1:  # some file systems count no folders
            count = sum(1 for _ in former.iterdir())
    return StoredTag(name, digest, created_at, moved_at if count > 1 or moved_at - created_at > 1 else None)


def write_tag(folder: Path, name: str, digest: str, *, at: float | None = None) -> None:
    """Point a tag to a manifest; ``at`` is when that was (seconds since 1970)."""
    place, content = f"{folder}/{name}", digest.encode()
    former = f"/index/{ALGORITHM}/{digest.partition(':')[2]}"
    for part in ("", "/current", "/index", f"/index/{ALGORITHM}", former):
        with suppress(FileExistsError):
            os.mkdir(place + part)  # noqa: PTH102  thousands of tags: a path object each takes as long again
    for part in ("/current", former):
        descriptor = os.open(f"{place}{part}/link", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, content)
        os.close(descriptor)
    if at is not None:
        set_times(Path(place), created_at=at)


def set_times(place: Path, *, created_at: float, updated_at: float | None = None) -> None:
    """When a tag was made and, if it was moved since, when (seconds since 1970)."""
    os.utime(place / "current" / "link", (updated_at or created_at,) * 2)
    os.utime(place, (created_at, created_at))


def folder_time(folder: Path) -> int:
    """When something came or went (nanoseconds); 0 if there is no such folder."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def names_in(folder: Path) -> set[str]:
    """The names of what is in a folder; none if it is missing."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()


def micros(seconds: float) -> int:
    """The registry's times have microseconds."""
    return round(seconds * 1_000_000)
