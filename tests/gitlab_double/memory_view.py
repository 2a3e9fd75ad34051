"""A registry in memory, for the tests of the GitLab application itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tests.gitlab_double.state import LONG_AGO, TagFacts

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass
class MemoryView:
    """Tags by repository path."""

    contents: dict[str, dict[str, TagFacts]] = field(default_factory=dict)
    has_database: bool = True

    def tags(self, path: str) -> Mapping[str, TagFacts]:
        return self.contents.get(path, {})

    def delete_tag(self, path: str, tag: str) -> bool:
        return self.contents.get(path, {}).pop(tag, None) is not None

    def size(self, path: str) -> int | None:
        if not self.has_database:
            return None
        return sum({size for facts in self.tags(path).values() for size in facts.layer_sizes})

    def put(self, path: str, tag: str, *, created_at: datetime = LONG_AGO, is_index: bool = False) -> None:
        """A tag with made-up facts."""
        number = len(self.contents.setdefault(path, {})) + 1
        self.contents[path][tag] = TagFacts(
            digest=f"sha256:{number:064x}",
            media_type=INDEX_TYPE if is_index else MANIFEST_TYPE,
            config_digest="" if is_index else f"sha256:{number + 4096:064x}",
            layer_sizes=() if is_index else (1000, 20),
            total_size=500 if is_index else 1720,
            created_at=created_at,
            built_at=datetime.fromtimestamp(0, LONG_AGO.tzinfo),
        )
