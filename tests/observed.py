"""Small repositories as they are observed, made by hand and at random, and a model of what deletions do to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from regwarden.core.observed import ObservedManifest, ObservedRegistry, ObservedRepository, ObservedTag, TagState
from regwarden.core.plan import Step, StepKind

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)
JUST_NOW = NOW - timedelta(hours=1)
DAY = timedelta(days=1)
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(number: int) -> str:
    """A digest that is easy to tell from others."""
    return f"sha256:{number:064x}"


def signature_tag(number: int) -> str:
    """The tag of a signature of a digest."""
    return f"sha256-{number:064x}.sig"


def manifest(number: int, *children: int, subject: int | None = None, **more) -> ObservedManifest:
    """An image, or with children an index; old unless it is said otherwise."""
    facts: dict[str, Any] = {
        "digest": digest_of(number),
        "media_type": INDEX if children else IMAGE,
        "is_read": True,
        "first_seen_at": LONG_AGO,
        "is_pushed_exact": True,
        "is_index": bool(children),
        "children": tuple(map(digest_of, children)),
        "subject": None if subject is None else digest_of(subject),
        "size_bytes": 100 + number,
    }
    return ObservedManifest(**(facts | more))


def repository(
    tags: Mapping[str, int | None], *manifests: ObservedManifest, name: str = "team/app", **more
) -> ObservedRepository:
    """Tags by name with the number of their digest; manifests that are not given are plain images."""
    made = {one.digest: one for one in manifests}
    for number in tags.values():
        if number is not None:
            made.setdefault(digest_of(number), manifest(number))
    observed = tuple(tag(one, number) for one, number in tags.items())
    return ObservedRepository(registry="prod", name=name, tags=observed, manifests=made, **more)


def tag(name: str, number: int | None, *, tagged_at: datetime = LONG_AGO) -> ObservedTag:
    """A tag that points to a digest; without one it dangles."""
    state = TagState.DANGLING if number is None else TagState.OK
    return ObservedTag(name, None if number is None else digest_of(number), state, tagged_at, True)


def registry(**more) -> ObservedRegistry:
    """One that was read completely a minute ago and can do everything."""
    facts: dict[str, Any] = {
        "name": "prod",
        "crawled_at": NOW - timedelta(minutes=1),
        "coverage": "complete",
        "events_since": LONG_AGO,
        "delivered_at": NOW - timedelta(minutes=1),
        "can_delete": True,
        "can_untag": True,
    }
    return ObservedRegistry(**(facts | more))


def after(before: ObservedRepository, steps: Iterable[Step]) -> ObservedRepository:
    """The repository after some steps, as a registry carries them out; raises ``KeyError`` for what is not there."""
    tags = {one.name: one for one in before.tags}
    manifests = dict(before.manifests)
    for step in steps:
        if step.kind is StepKind.UNTAG:
            (name,) = step.tags
            assert tags.pop(name).digest == step.digest
        else:
            del manifests[step.digest]
            gone = [one.name for one in tags.values() if one.digest == step.digest]
            assert sorted(gone) == sorted(step.tags)
            for name in gone:
                del tags[name]
        untagged = step.digest in manifests and all(one.digest != step.digest for one in tags.values())
        if untagged:
            manifests[step.digest] = manifests[step.digest]._replace(untagged_since=NOW, is_untagged_exact=True)
    return replace(before, tags=tuple(tags.values()), manifests=manifests)


@st.composite
def repositories(draw: st.DrawFn, *, name: str = "team/app") -> ObservedRepository:
    """A few manifests: nested indexes, shared children, referrers of anything, several and special tags, young ones."""
    count = draw(st.integers(1, 8))
    manifests = []
    for number in range(count):
        lower = st.integers(0, max(number - 1, 0))
        children = draw(st.lists(lower, max_size=3, unique=True)) if number else []
        subject = draw(st.none() | lower | st.just(99)) if number else None
        touched = draw(st.sampled_from([LONG_AGO] * 5 + [JUST_NOW]))
        manifests.append(manifest(number, *children, subject=subject, last_pushed_at=touched))
    tags = draw(
        st.dictionaries(
            st.sampled_from([*(f"t{number}" for number in range(7)), *map(signature_tag, range(count)), "s"]),
            st.integers(0, count - 1),
            max_size=8,
        )
    )
    made = repository(tags, *manifests, name=name)
    moved = tuple(one._replace(tagged_at=draw(st.sampled_from([LONG_AGO] * 5 + [JUST_NOW]))) for one in made.tags)
    dangling = draw(st.lists(st.just(tag("dangling", None)), max_size=1))
    return replace(made, tags=(*moved, *dangling))
