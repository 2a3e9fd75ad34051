"""What follows from the registry's storage? Sizes, referrers, children of indexes, and tags as Rails asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from tests.gitlab_double.manifests import Manifest
from tests.gitlab_double.state import TagFacts
from tests.gitlab_double.storage import Storage
from tests.gitlab_double.tag_files import StoredTag, micros


class Relations(NamedTuple):
    """Of one repository: manifests by the subject they refer to, and the digests that any index here lists."""

    referrers: Mapping[str, tuple[Manifest, ...]]
    children: frozenset[str]


class View:
    """The registry as GitLab sees it (``state.RegistryView``); the answers are kept as long as nothing changes."""

    def __init__(self, storage: Storage, *, has_database: bool) -> None:
        self.storage = storage
        self._has_database = has_database
        self._relations: dict[str, tuple[frozenset[str], Relations]] = {}
        self._facts: dict[str, tuple[list[StoredTag], dict[str, TagFacts]]] = {}
        self._built: dict[str, datetime | None] = {}
        self.tag_deleted: Callable[[str, str], None] = lambda path, tag: None

    @property
    def has_database(self) -> bool:
        return self._has_database

    def tags(self, path: str) -> Mapping[str, TagFacts]:
        """The tags by name, sorted; none for an unknown repository. Tags whose manifest is missing are left out."""
        stored = self.storage.tags(path)
        known = self._facts.get(path)
        if known is None or known[0] is not stored:
            pairs = ((tag, self.storage.manifest(tag.digest)) for tag in stored)
            known = (stored, {tag.name: self._describe(tag, found) for tag, found in pairs if found is not None})
            self._facts[path] = known
        return known[1]

    def delete_tag(self, path: str, tag: str) -> bool:
        """Remove one tag and leave its siblings; whether there was one."""
        is_gone = self.storage.delete_tag(path, tag)
        if is_gone:
            self.tag_deleted(path, tag)
        return is_gone

    def size(self, path: str) -> int | None:
        """Bytes of distinct layers under tagged manifests; ``None`` without the database."""
        return self.layer_bytes(path) if self._has_database else None

    def layer_bytes(self, path: str) -> int:
        sizes: dict[str, int] = {}
        for manifest in self._reachable({tag.digest for tag in self.storage.tags(path)}):
            sizes.update(manifest.layers)
        return sum(sizes.values())

    def relations(self, path: str) -> Relations:
        revisions = self.storage.revisions(path)
        known = self._relations.get(path)
        if known is None or known[0] is not revisions:
            known = (revisions, self._relate(revisions))
            self._relations[path] = known
        return known[1]

    def _relate(self, revisions: Iterable[str]) -> Relations:
        referrers: dict[str, tuple[Manifest, ...]] = {}
        children: set[str] = set()
        for digest in sorted(revisions):
            manifest = self.storage.manifest(digest)
            if manifest is not None:
                children.update(manifest.children)
                if manifest.subject:
                    referrers[manifest.subject] = (*referrers.get(manifest.subject, ()), manifest)
        return Relations(referrers, frozenset(children))

    def _reachable(self, digests: set[str]) -> Iterable[Manifest]:
        seen, waiting = set(digests), sorted(digests)
        while waiting:
            manifest = self.storage.manifest(waiting.pop())
            if manifest is not None:
                yield manifest
                new = [child for child in manifest.children if child not in seen]
                seen.update(new)
                waiting.extend(new)

    def _describe(self, tag: StoredTag, manifest: Manifest) -> TagFacts:
        return TagFacts(
            tag.digest,
            manifest.media_type,
            manifest.config_digest,
            tuple(size for _, size in manifest.layers),
            manifest.size_bytes,
            moment(tag.created_at),
            None if tag.updated_at is None else moment(tag.updated_at),
            self._find_built_at(manifest),
        )

    def _find_built_at(self, manifest: Manifest) -> datetime | None:
        if manifest.digest not in self._built:
            config = read_config(self.storage, manifest)
            try:
                self._built[manifest.digest] = datetime.fromisoformat(config["created"])
            except (KeyError, ValueError, TypeError):
                self._built[manifest.digest] = None
        return self._built[manifest.digest]


def read_config(storage: Storage, manifest: Manifest) -> Mapping[str, str]:
    """The image configuration; empty if there is none."""
    content = storage.read_blob(manifest.config_digest) if manifest.config_digest else None
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def moment(seconds: float) -> datetime:
    """A time of the storage with microseconds."""
    whole, part = divmod(micros(seconds), 1_000_000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=part)


def describe_times(tag: StoredTag) -> dict[str, str]:
    """The times of a tag as the registry's own API has them."""
    found = {"created_at": milliseconds(tag.created_at)}
    if tag.updated_at is not None:
        found["updated_at"] = milliseconds(tag.updated_at)
    return found | {"published_at": milliseconds(tag.published_at)}


@lru_cache(maxsize=1 << 16)
def milliseconds(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return moment(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
