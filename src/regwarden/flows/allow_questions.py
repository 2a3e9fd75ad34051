"""How does one question to the allow-list become an answer? From entries in memory, or read for this one question."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from regwarden.core.allow_images import Image, parse_image
from regwarden.core.allow_index import AllowIndex
from regwarden.core.allowlist import Answer, Question, Rules, TagMode, Target, decide, parse_outcome, parse_tag_mode
from regwarden.core.quantities import parse_duration
from regwarden.settings_access import AllowSettings
from regwarden.store.allow import load_candidates
from regwarden.store.allow_relations import find_surroundings, relations_of
from regwarden.store.allow_tags import find_target, synonyms_of
from regwarden.store.connections import Connection
from regwarden.store.registry_hosts import Hosts, load_hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowOptions:
    """What the settings say: rules, how long a tag must not have moved, how long the last state answers alone."""

    rules: Rules = field(default_factory=Rules)
    settled_after: timedelta = timedelta(0)
    stale_after: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is to run; empty: not said."""

    cluster: str = ""
    namespace: str = ""


def build_allow_options(settings: AllowSettings) -> AllowOptions:
    """How the allow-list answers. Raises ``InputError`` for what is no duration or no such word."""
    return AllowOptions(
        rules=Rules(parse_outcome(settings.default), parse_tag_mode(settings.tags)),
        settled_after=parse_duration(settings.settled_after),
        stale_after=parse_duration(settings.stale_after),
    )


def ask_once(connection: Connection, text: str, place: Place, options: AllowOptions, now: datetime) -> Answer:
    """The answer about one image, from the database alone. Raises ``InputError`` (code ``bad-image``)."""
    hosts = load_hosts(connection)
    image = parse_image(text, synonyms_of(hosts))
    question = Question(image, place.cluster, place.namespace, now)
    if image.is_tag_question and options.rules.tags is TagMode.CURRENT:
        question = question._replace(target=resolve_tag(connection, image, hosts, options, now))
    digests: Iterable[bytes] = () if question.digest is None else find_surroundings(connection, question.digest)
    entries = load_candidates(connection, digests, {image.text, *image.references, *_shorter(image)})
    index = AllowIndex()
    for entry in entries:
        index.put(entry)
    index.relate(relations_of(connection, {one.digest for one in entries if one.digest is not None}))
    return decide(question, index.candidates(question), options.rules)


def resolve_tag(connection: Connection, image: Image, hosts: Hosts, options: AllowOptions, now: datetime) -> Target:
    """What the tag of ``image`` points to, by the inventory."""
    return find_target(connection, image, hosts, now - options.settled_after)


def _shorter(image: Image) -> set[str]:
    """The texts that entries for the same tag may have been given as."""
    texts = {f"{name}:{image.tag}" for name in image.spellings if image.tag}
    return texts | ({*image.spellings} if image.tag == "latest" else set())
