"""What is in the registry's own folders? Tags, manifests and sizes, read from and written to the files of Distribution.

Layout: Distribution 2.8, registry/storage/paths.go. When a tag was made is the time of its folder, when it was moved
that of its link. Nothing is asked of the server: so this also works while it does not run.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.gitlab_double.manifests import Manifest, parse_manifest
from tests.gitlab_double.tag_files import (
    ALGORITHM,
    StoredTag,
    folder_time,
    micros,
    names_in,
    read_tag,
    set_times,
    write_tag,
)


@dataclass
class _Repository:
    """What is known of one repository; ``names`` are sorted."""

    names: list[str] = field(default_factory=list)
    tags: dict[str, StoredTag] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    folder_time: int = -1  # no time of a folder: recorded ones may be those of 1970
    version: int = 0
    sorted_tags: dict[str, list[StoredTag]] = field(default_factory=dict)
    revisions: tuple[int, frozenset[str]] | None = None


class Storage:
    """The folders of one registry below ``root``.

    What changes beside it is told to ``touch``; tags that came or went are noticed in any case. ``is_watched`` says
    that every push is told; otherwise all links are read each time.
    """

    def __init__(self, root: Path, *, is_watched: bool = True) -> None:
        self.root = root / "docker" / "registry" / "v2"
        self.repositories_root = self.root / "repositories"
        self._is_watched = is_watched
        self._repositories: dict[str, _Repository] = {}
        self._manifests: dict[str, Manifest] = {}
        self._lock = threading.RLock()

    # Reading

    def repositories(self) -> list[str]:
        """The paths of all repositories, those without manifests included, in path order."""
        return sorted(self._walk(self.repositories_root, ""))

    def exists(self, path: str) -> bool:
        return (self._folder(path) / "_manifests").is_dir()

    def tag_names(self, path: str) -> list[str]:
        """Sorted; not to be changed by the caller."""
        return self._load(path).names

    def tag(self, path: str, name: str) -> StoredTag | None:
        return self._load(path).tags.get(name)

    def tags(self, path: str, order: str = "name") -> list[StoredTag]:
        """Sorted by ``name`` or ``published_at`` (then the name); not to be changed by the caller."""
        with self._lock:
            known = self._load(path)
            if order not in known.sorted_tags:
                found = [known.tags[name] for name in known.names]
                if order == "published_at":
                    found.sort(key=lambda tag: (micros(tag.published_at), tag.name))
                known.sorted_tags[order] = found
            return known.sorted_tags[order]

    def revisions(self, path: str) -> frozenset[str]:
        """The digests of the manifests that the repository has, tagged or not."""
        folder = self._folder(path) / "_manifests" / "revisions" / ALGORITHM
        with self._lock:
            known = self._repositories.setdefault(path, _Repository())
            stamp = folder_time(folder)
            if known.revisions is None or known.revisions[0] != stamp or not self._is_watched:
                names = names_in(folder)
                found = frozenset(f"{ALGORITHM}:{name}" for name in names if (folder / name / "link").exists())
                known.revisions = (stamp, found)
            return known.revisions[1]

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest; ``None`` if its blob is missing or no manifest."""
        found = self._manifests.get(digest)
        if found is None:
            content = self.read_blob(digest)
            found = parse_manifest(digest, content) if content is not None else None
            if found is not None:
                self._manifests[digest] = found
        return found

    def read_blob(self, digest: str) -> bytes | None:
        try:
            return self._blob(digest).read_bytes()
        except OSError:
            return None

    def created_at(self, path: str) -> float:
        """When the repository was made, as far as its folders tell (seconds since 1970)."""
        return (self._folder(path) / "_manifests").stat().st_mtime

    # Changing

    def touch(self, path: str, tag: str = "") -> None:
        """Something was pushed to or deleted from the repository: look at this tag, and at the manifests, again."""
        with self._lock:
            known = self._repositories.setdefault(path, _Repository())
            known.revisions = None
            if tag:
                known.changed.add(tag)
            else:  # times of folders are coarse: they need not show it
                known.folder_time = -1

    def delete_tag(self, path: str, name: str) -> bool:
        """Remove a tag alone, as Distribution does it itself: its folder goes. Whether it was there."""
        gone = self._tags_folder(path) / name
        rubbish = self.root.parent / f"gone-{time.monotonic_ns()}"
        with self._lock:
            known = self._repositories.setdefault(path, _Repository())
            is_known = folder_time(gone.parent) == known.folder_time
            try:
                gone.rename(rubbish)  # at once, so that the server never sees half a tag
            except FileNotFoundError:
                return False
            self.touch(path, name)
            if is_known:  # thousands of tags need not be listed again for each that goes
                known.folder_time = folder_time(gone.parent)
        shutil.rmtree(rubbish)
        return True

    def write_tags(self, path: str, digest: str, names: Iterable[str], *, at: float | None = None) -> None:
        """Point tags to a manifest that the repository has; ``at`` is when that was (seconds since 1970)."""
        folder = self._tags_folder(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            write_tag(folder, name, digest, at=at)
            self.touch(path, name)

    def has_blob(self, path: str, digest: str) -> bool:
        """Whether the blob is there and belongs to the repository."""
        return self._layer_link(path, digest).exists() and self._blob(digest).exists()

    def write_hollow_blob(self, path: str, digest: str, size_bytes: int) -> None:
        """A blob of that size which takes no room: nothing but zeros, whatever its digest says."""
        place, belongs = self._blob(digest), self._layer_link(path, digest)
        for file in (place, belongs):
            file.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            with place.open("wb") as blob:
                blob.truncate(size_bytes)
        belongs.write_text(digest)

    def set_times(self, path: str, name: str, *, created_at: float, updated_at: float | None = None) -> None:
        """When a tag was made and, if it was moved since, when (seconds since 1970)."""
        set_times(self._tags_folder(path) / name, created_at=created_at, updated_at=updated_at)
        self.touch(path, name)

    def delete_revision(self, path: str, digest: str) -> None:
        """Take a manifest, which no tag points to, out of the repository; its blob stays."""
        shutil.rmtree(self._folder(path) / "_manifests" / "revisions" / ALGORITHM / digest.partition(":")[2])
        self.touch(path)

    def forget(self) -> None:
        """Anything may have changed beside it: read all of it again."""
        with self._lock:
            self._repositories.clear()
            self._manifests.clear()

    def delete_repository(self, path: str) -> bool:
        """Remove the repository's own folders; repositories below its path stay."""
        with self._lock:
            self._repositories.pop(path, None)
            found = self.exists(path)
            for name in ("_manifests", "_layers", "_uploads"):
                shutil.rmtree(self._folder(path) / name, ignore_errors=True)
            return found

    def rename(self, old: str, new: str) -> None:
        """Move a repository, and those below its path, to another path."""
        target = self._folder(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._folder(old).rename(target)
            for path in [path for path in self._repositories if path == old or path.startswith(f"{old}/")]:
                del self._repositories[path]

    # The folders

    def _folder(self, path: str) -> Path:
        return self.repositories_root / path

    def _blob(self, digest: str) -> Path:
        hexadecimal = digest.partition(":")[2]
        return self.root / "blobs" / ALGORITHM / hexadecimal[:2] / hexadecimal / "data"

    def _layer_link(self, path: str, digest: str) -> Path:
        return self._folder(path) / "_layers" / ALGORITHM / digest.partition(":")[2] / "link"

    def _tags_folder(self, path: str) -> Path:
        return self._folder(path) / "_manifests" / "tags"

    def _walk(self, folder: Path, path: str) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == "_manifests":
                    yield path
                elif not entry.name.startswith("_"):
                    yield from self._walk(Path(entry.path), f"{path}/{entry.name}" if path else entry.name)

    def _load(self, path: str) -> _Repository:
        with self._lock:
            known = self._repositories.setdefault(path, _Repository())
            folder = self._tags_folder(path)
            stamp = folder_time(folder)
            if not self._is_watched:
                known = self._repositories[path] = _Repository(revisions=known.revisions)
            if stamp != known.folder_time:
                there = names_in(folder)
                known.changed |= there ^ known.tags.keys()
                known.folder_time = stamp
            if known.changed:
                _refresh(known, folder)
            return known


def _refresh(known: _Repository, folder: Path) -> None:
    """Read the tags again that are said to have changed."""
    is_many = len(known.changed) > 50
    for name in known.changed:
        found = read_tag(folder, name)
        was_known = name in known.tags
        if found is not None:
            known.tags[name] = found
            if not was_known and not is_many:
                insort(known.names, name)
        elif known.tags.pop(name, None) is not None and not is_many:
            del known.names[bisect_left(known.names, name)]
    if is_many:
        known.names = sorted(known.tags)
    else:
        known.names = list(known.names)
    known.changed.clear()
    known.sorted_tags.clear()
