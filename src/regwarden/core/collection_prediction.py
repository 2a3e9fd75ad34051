"""What should a collection free after a plan was applied? Its removed manifests and what only they named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from regwarden.core.collection_runbook import Expected
from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.core.plan import PlanSizes
from regwarden.core.undo import Kept


class RemovedManifest(NamedTuple):
    """A manifest that a plan removed from a repository; ``size_bytes`` of its document."""

    repository: str
    kept: Kept
    size_bytes: int


class RemovedBlob(NamedTuple):
    """A blob that should go, and a repository in which it could be read before."""

    repository: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """Documents and blobs that should go, by digest; sizes in bytes. Of different declared sizes the least counts."""

    documents: Mapping[str, int]
    blobs: Mapping[str, RemovedBlob]

    @property
    def size_bytes(self) -> int:
        """Everything, each digest once: what is a manifest of one repository may be a blob of another."""
        sizes = {digest: one.size_bytes for digest, one in self.blobs.items()} | dict(self.documents)
        return min(sum(sizes.values()), MAX_SUM_BYTES)

    def without(self, needed: Collection[str]) -> Prediction:
        """What is left of it if ``needed`` stays."""
        return Prediction(
            {digest: size for digest, size in self.documents.items() if digest not in needed},
            {digest: one for digest, one in self.blobs.items() if digest not in needed},
        )


def predict(removed: Iterable[RemovedManifest]) -> Prediction:
    """What these manifests were and named."""
    documents: dict[str, int] = {}
    blobs: dict[str, RemovedBlob] = {}
    for one in removed:
        documents[one.kept.digest] = one.size_bytes
        for digest, size_bytes in one.kept.blobs:
            found = RemovedBlob(one.repository, digest, size_bytes)
            known = blobs.get(digest, found)
            first = min(known.repository, found.repository)
            blobs[digest] = RemovedBlob(first, digest, min(known.size_bytes, size_bytes))
    return Prediction(documents, blobs)


def expect(prediction: Prediction, planned: PlanSizes | None) -> Expected:
    """The bounds of what a collection frees; the plan says how sure its own figure was.

    Where untagged manifests may be there that nobody knows of, they may hold on to any blob, and indexes among them to
    any document.
    """
    at_most = prediction.size_bytes
    if planned is None:
        return Expected(at_most_bytes=at_most)
    is_exact = planned.reclaimable_bytes == planned.lower_bound_bytes
    return Expected(at_most_bytes=at_most, at_least_bytes=at_most if is_exact else 0)


def choose_sample(prediction: Prediction, count: int) -> tuple[RemovedBlob, ...]:
    """The largest blobs that should go, at most ``count``: reading a byte of each shows whether they are gone."""
    largest = sorted(prediction.blobs.values(), key=lambda one: (-one.size_bytes, one.digest))
    return tuple(largest[:count])
