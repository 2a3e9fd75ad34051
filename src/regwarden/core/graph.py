"""What does each size mean, exactly? The readable specification of every graph figure (design section 7).

Plain sets over plain values, slow on purpose. ``regwarden.store.analytics`` computes the same figures for millions
of manifests and is tested to be equal on thousands of random registries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

MAX_SUM_BYTES: Final = 2**63 - 1
"""Where every sum stops: sizes are declared by strangers and must not overflow a 64-bit column."""

MAX_REFERRER_ROUNDS: Final = 32
"""How far referrers of referrers follow a deleted subject; whatever is further away is kept."""

Node = tuple[Literal["manifest", "blob"], str]
Pair = tuple[str, str]
"""(repository, manifest) or (repository, tag)."""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """One document. ``layers`` are an image's stored layers, or an index's entries that are blobs."""

    size_bytes: int
    layers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    subject: str | None = None
    is_index: bool = False
    is_read: bool = True


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """One repository: where its tags point, which manifests exist there, its place in the catalog."""

    name: str
    tags: Mapping[str, str]
    manifests: frozenset[str]
    catalog_position: int = 0


@dataclass(frozen=True, slots=True)
class RegistryFacts:
    """All that is known of one registry; the keys are any unique names of content."""

    manifests: Mapping[str, ManifestFacts]
    blob_sizes: Mapping[str, int]
    repositories: tuple[RepositoryFacts, ...]

    def size_of(self, nodes: Iterable[Node]) -> int:
        """Bytes of distinct nodes."""
        return capped(
            self.manifests[name].size_bytes if kind == "manifest" else self.blob_sizes[name] for kind, name in nodes
        )

    def counts(self, repository: RepositoryFacts, manifest: str) -> bool:
        """Whether a manifest takes part in this repository's figures: it was read, and it exists there."""
        return manifest in repository.manifests and self.manifests[manifest].is_read


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Bytes of one tag; ``stored`` of a tag is its ``logical``."""

    logical: int
    exclusive: int
    layer: int
    disk: int

    @property
    def shared(self) -> int:
        """The part that another tag of the registry holds too."""
        return self.logical - self.exclusive


@dataclass(frozen=True, slots=True)
class RepositoryFigures:
    """Bytes of one repository."""

    logical: int
    stored: int
    stored_all: int
    exclusive: int
    attributed: int
    layer: int
    disk: int

    @property
    def shared(self) -> int:
        """The part that another repository holds too."""
        return self.stored - self.exclusive


@dataclass(frozen=True, slots=True)
class RegistryFigures:
    """Bytes of a whole registry."""

    logical: int
    stored: int
    stored_all: int
    layer: int
    disk: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Every figure of a registry. Tags whose manifest is gone or unread have none and are absent.

    ``manifests`` holds the exclusive bytes of each tagged (repository, manifest), ``indexes`` the logical and layer
    bytes of each index as content: with the children that exist in any repository.
    """

    registry: RegistryFigures
    repositories: Mapping[str, RepositoryFigures]
    tags: Mapping[Pair, TagFigures]
    manifests: Mapping[Pair, int]
    indexes: Mapping[str, tuple[int, int]]


class Confidence(StrEnum):
    """How sure a number of reclaimable bytes is."""

    EXACT = "exact"
    UPPER_BOUND = "upper-bound"


@dataclass(frozen=True, slots=True)
class Freed:
    """What deleting a selection frees, if nothing unknown holds it; ``document_bytes`` are the manifests alone."""

    freed_bytes: int
    document_bytes: int


def capped(sizes: Iterable[int]) -> int:
    """The sum, at most ``MAX_SUM_BYTES``."""
    return min(sum(sizes), MAX_SUM_BYTES)


def reach(registry: RegistryFacts, repository: RepositoryFacts, starts: Iterable[str]) -> frozenset[Node]:
    """Everything the given manifests hold inside one repository, themselves included.

    A manifest that was not read or does not exist there is left out with all that only it holds. ``subject`` is
    not followed: a signature does not hold the image it signs.
    """
    found: set[Node] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        if ("manifest", name) in found or not registry.counts(repository, name):
            continue
        found.add(("manifest", name))
        facts = registry.manifests[name]
        found.update(("blob", blob) for blob in (*facts.layers, *facts.others))
        todo.extend(facts.children)
    return frozenset(found)


def layers_of(registry: RegistryFacts, nodes: Iterable[Node]) -> frozenset[Node]:
    """The distinct layers named by the manifests among these nodes."""
    return frozenset(
        ("blob", layer) for kind, name in nodes if kind == "manifest" for layer in registry.manifests[name].layers
    )


def measure(registry: RegistryFacts) -> Measured:
    """All figures of a registry, by definition."""
    tags = _measure_tags(registry)
    held = {one.name: reach(registry, one, one.tags.values()) for one in registry.repositories}
    everything = {one.name: reach(registry, one, one.manifests) for one in registry.repositories}
    holders = Counter(node for nodes in held.values() for node in nodes)
    attributed = _attribute(registry, held)
    repositories = {}
    for name, nodes in held.items():
        own = [figures for (repository, _), figures in tags.items() if repository == name]
        repositories[name] = RepositoryFigures(
            logical=capped(figures.logical for figures in own),
            stored=registry.size_of(nodes),
            stored_all=registry.size_of(everything[name]),
            exclusive=registry.size_of(node for node in nodes if holders[node] == 1),
            attributed=attributed[name],
            layer=capped(figures.layer for figures in own),
            disk=capped(figures.disk for figures in own),
        )
    return Measured(
        registry=RegistryFigures(
            logical=capped(figures.logical for figures in tags.values()),
            stored=registry.size_of(holders),
            stored_all=registry.size_of(frozenset().union(*everything.values())),
            layer=capped(figures.layer for figures in tags.values()),
            disk=capped(figures.disk for figures in tags.values()),
        ),
        repositories=repositories,
        tags=tags,
        manifests=_manifest_exclusive(registry),
        indexes=_measure_indexes(registry),
    )


def _tagged(registry: RegistryFacts) -> dict[Pair, frozenset[Node]]:
    """What each tag that counts reaches."""
    return {
        (one.name, tag): reach(registry, one, [manifest])
        for one in registry.repositories
        for tag, manifest in one.tags.items()
        if registry.counts(one, manifest)
    }


def _measure_tags(registry: RegistryFacts) -> dict[Pair, TagFigures]:
    held = _tagged(registry)
    holders = Counter(node for nodes in held.values() for node in nodes)
    layers = {tag: layers_of(registry, nodes) for tag, nodes in held.items()}
    owned = defaultdict(list)
    for layer, owner in _primary_tags(registry, layers).items():
        owned[owner].append(layer)
    return {
        tag: TagFigures(
            logical=registry.size_of(nodes),
            exclusive=registry.size_of(node for node in nodes if holders[node] == 1),
            layer=registry.size_of(layers[tag]),
            disk=registry.size_of(owned[tag]),
        )
        for tag, nodes in held.items()
    }


def _primary_tags(registry: RegistryFacts, layers: Mapping[Pair, frozenset[Node]]) -> dict[Node, Pair]:
    """The one tag that each layer is attributed to: fewest layers, then catalog order, then tag name byte by byte."""
    position = {one.name: (one.catalog_position, one.name.encode()) for one in registry.repositories}
    order = sorted(layers, key=lambda tag: (len(layers[tag]), position[tag[0]], tag[1].encode()))
    primary: dict[Node, Pair] = {}
    for tag in order:
        for layer in layers[tag]:
            primary.setdefault(layer, tag)
    return primary


def _attribute(registry: RegistryFacts, held: Mapping[str, frozenset[Node]]) -> dict[str, int]:
    """Fair shares: each node in equal parts, what does not divide to the lowest names; the sum is what is stored."""
    holders: dict[Node, list[str]] = defaultdict(list)
    for name in sorted(held, key=str.encode):
        for node in held[name]:
            holders[node].append(name)
    shares = dict.fromkeys(held, 0)
    for node, names in holders.items():
        share, remainder = divmod(registry.size_of([node]), len(names))
        for place, name in enumerate(names):
            shares[name] += share + (place < remainder)
    return {name: capped([share]) for name, share in shares.items()}


def _manifest_exclusive(registry: RegistryFacts) -> dict[Pair, int]:
    """What only this tagged manifest holds: freed by deleting it, with all its tags, from this repository alone."""
    held = {
        (one.name, manifest): reach(registry, one, [manifest])
        for one in registry.repositories
        for manifest in set(one.tags.values())
        if registry.counts(one, manifest)
    }
    holders = Counter(node for nodes in held.values() for node in nodes)
    return {pair: registry.size_of(node for node in nodes if holders[node] == 1) for pair, nodes in held.items()}


def _measure_indexes(registry: RegistryFacts) -> dict[str, tuple[int, int]]:
    existing = frozenset().union(*(one.manifests for one in registry.repositories))
    anywhere = RepositoryFacts(name="", tags={}, manifests=existing)
    held = {
        name: reach(registry, anywhere, [name])
        for name in existing
        if registry.manifests[name].is_index and registry.manifests[name].is_read
    }
    return {
        name: (registry.size_of(nodes), registry.size_of(layers_of(registry, nodes))) for name, nodes in held.items()
    }


def reclaim(registry: RegistryFacts, selected: Collection[str], repositories: Collection[str] | None = None) -> Freed:
    """What is freed when the selected manifests, with their tags, are deleted from the repositories (``None``: all).

    Kept is what is reachable from a kept root: a tagged manifest that is not selected, or an untagged one that is
    not selected and stands on its own, that is, no index existing in its repository lists it. An untagged referrer
    goes with its subject. What a kept index lists is kept even where it is selected.
    """
    before: set[Node] = set()
    after: set[Node] = set()
    for one in registry.repositories:
        before |= reach(registry, one, one.manifests)
        chosen = frozenset(selected) if repositories is None or one.name in repositories else frozenset()
        after |= _kept(registry, one, chosen)
    freed = before - after
    return Freed(
        freed_bytes=registry.size_of(freed),
        document_bytes=registry.size_of(node for node in freed if node[0] == "manifest" and node[1] in selected),
    )


def _kept(registry: RegistryFacts, repository: RepositoryFacts, selected: frozenset[str]) -> frozenset[Node]:
    existing = [name for name in repository.manifests if registry.manifests[name].is_read]
    listed = {child for name in existing for child in registry.manifests[name].children}
    tagged = set(repository.tags.values())
    removed = selected
    kept = reach(registry, repository, (name for name in existing if _is_root(name, tagged, listed, removed)))
    for _ in range(MAX_REFERRER_ROUNDS):
        followers = {
            name
            for name in existing
            if name not in tagged and name not in removed and _lost_subject(registry, repository, name, removed, kept)
        }
        if not followers:
            break
        removed |= followers
        kept = reach(registry, repository, (name for name in existing if _is_root(name, tagged, listed, removed)))
    return kept


def _is_root(name: str, tagged: Collection[str], listed: Collection[str], removed: Collection[str]) -> bool:
    return name not in removed and (name in tagged or name not in listed)


def _lost_subject(
    registry: RegistryFacts,
    repository: RepositoryFacts,
    name: str,
    removed: Collection[str],
    kept: Collection[Node],
) -> bool:
    subject = registry.manifests[name].subject
    return (
        subject is not None
        and subject in removed
        and subject in repository.manifests
        and ("manifest", subject) not in kept
    )


def release(registry: RegistryFacts, deleted: Collection[Pair]) -> Freed:
    """What is freed when exactly these (repository, manifest) are deleted, with their tags, and nothing else.

    That is what some manifest that exists names before, and none that is left names after: a registry's garbage
    collection that keeps untagged manifests frees just this. An index that is left keeps the documents that it lists,
    also those that do not exist in its repository (found by experiment with Distribution 2.8.2 and 3.1.1).
    """
    before = _named(registry, frozenset())
    freed = before - _named(registry, frozenset(deleted)) - _listed(registry, frozenset(deleted))
    gone = {manifest for _, manifest in deleted}
    return Freed(
        freed_bytes=registry.size_of(freed),
        document_bytes=registry.size_of(node for node in freed if node[0] == "manifest" and node[1] in gone),
    )


def held_by_untagged(registry: RegistryFacts, deleted: Collection[Pair]) -> int:
    """Bytes of what the tags of the deleted reached and only manifests without a tag go on holding."""
    gone = frozenset(deleted)
    reached: set[Node] = set()
    tagged: set[Node] = set()
    for one in registry.repositories:
        reached |= reach(registry, one, (name for name in one.tags.values() if (one.name, name) in gone))
        left = replace(one, manifests=frozenset(name for name in one.manifests if (one.name, name) not in gone))
        tagged |= reach(registry, left, left.tags.values())
    return registry.size_of((reached & _named(registry, gone)) - tagged)


def _listed(registry: RegistryFacts, deleted: Collection[Pair]) -> frozenset[Node]:
    """The documents that an index which exists and is left lists."""
    return frozenset(
        ("manifest", child)
        for one in registry.repositories
        for name in one.manifests
        if registry.counts(one, name) and (one.name, name) not in deleted
        for child in registry.manifests[name].children
    )


def _named(registry: RegistryFacts, deleted: Collection[Pair]) -> frozenset[Node]:
    """Every manifest that exists and is left, and the blobs that it names."""
    found: set[Node] = set()
    for one in registry.repositories:
        for name in one.manifests:
            if registry.counts(one, name) and (one.name, name) not in deleted:
                facts = registry.manifests[name]
                found.add(("manifest", name))
                found.update(("blob", blob) for blob in (*facts.layers, *facts.others))
    return frozenset(found)
