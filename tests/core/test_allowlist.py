"""Deny beats allow beats the default, and what cannot be told is unknown; checked against an oracle of plain loops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.allow_images import parse_image
from regwarden.core.allow_index import AllowIndex, Relation
from regwarden.core.allowlist import (
    TAG_MOVES,
    AllowEntry,
    Answer,
    Outcome,
    Question,
    Rules,
    TagMode,
    TagState,
    Target,
    decide,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HEX = [f"{number:02x}" * 32 for number in range(8)]
D = [b"\x01" + bytes.fromhex(one) for one in HEX]
REPOSITORY = "reg.io/team/app"
KNOWN, UNASKED = Target(TagState.KNOWN, D[0]), Target(TagState.UNASKED)
RULES = Rules()


def entry(number: int = 1, image: str = "", **fields: Any) -> AllowEntry:
    parsed = parse_image(image) if image else None
    digest = parsed.digest if parsed is not None else None
    return AllowEntry(number, image="" if digest else image, digest=digest, **fields)


def ask(
    entries: list[AllowEntry],
    text: str,
    *,
    rules: Rules = RULES,
    target: Target = UNASKED,
    cluster: str = "",
    namespace: str = "",
    relations: tuple[Relation, ...] = (),
) -> Answer:
    index = AllowIndex()
    for one in entries:
        index.put(one)
    index.relate(relations)
    question = Question(parse_image(text), cluster, namespace, NOW, target)
    return decide(question, index.candidates(question), rules)


def test_a_digest_is_allowed_under_every_name() -> None:
    for text in (HEX[0], f"sha256:{HEX[0]}", f"{REPOSITORY}@sha256:{HEX[0]}", f"other:1@sha256:{HEX[0]}"):
        answer = ask([entry(7, HEX[0])], text)
        assert (answer.outcome, answer.reason, answer.entry_ids) == (Outcome.ALLOW, "allowed", (7,))
        assert (answer.digest, answer.warnings) == (f"sha256:{HEX[0]}", ())


def test_what_no_entry_names_is_as_the_settings_say() -> None:
    for default in Outcome:
        answer = ask([], HEX[0], rules=Rules(default))
        assert answer.outcome is default


def test_deny_beats_allow_and_says_why() -> None:
    answer = ask([entry(1, HEX[0]), entry(2, HEX[0], is_deny=True, reason="CVE-1")], HEX[0])
    assert (answer.outcome, answer.entry_ids) == (Outcome.DENY, (2,))
    assert answer.detail == "entry 2 denies this content: CVE-1"


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"not_before": NOW}, Outcome.ALLOW),
        ({"not_before": NOW + DAY}, Outcome.DENY),
        ({"expires_at": NOW + DAY}, Outcome.ALLOW),
        ({"expires_at": NOW}, Outcome.DENY),
    ],
)
def test_entries_begin_and_end(fields: dict[str, Any], outcome: Outcome) -> None:
    assert ask([entry(1, HEX[0], **fields)], HEX[0]).outcome is outcome


@pytest.mark.parametrize(
    ("cluster", "namespace", "outcome"),
    [
        ("prod-1", "team", Outcome.ALLOW),
        ("prod-1", "other", Outcome.DENY),
        ("test", "team", Outcome.DENY),
        ("", "team", Outcome.UNKNOWN),
        ("prod-1", "", Outcome.UNKNOWN),
        ("", "other", Outcome.DENY),
    ],
)
def test_entries_hold_where_they_say(cluster: str, namespace: str, outcome: Outcome) -> None:
    scoped = entry(1, HEX[0], clusters=("prod-*",), namespaces=("team",))
    answer = ask([scoped], HEX[0], cluster=cluster, namespace=namespace)
    assert answer.outcome is outcome
    mirrored = {Outcome.ALLOW: Outcome.DENY, Outcome.DENY: Outcome.ALLOW, Outcome.UNKNOWN: Outcome.UNKNOWN}
    denied = ask([scoped._replace(is_deny=True), entry(2, HEX[0])], HEX[0], cluster=cluster, namespace=namespace)
    assert denied.outcome is mirrored[outcome]


def test_a_pattern_is_about_names_and_a_bare_digest_has_none() -> None:
    patterned = entry(1, pattern="glob:reg.io/team/**")
    assert ask([patterned], f"{REPOSITORY}@sha256:{HEX[0]}").outcome is Outcome.ALLOW
    assert ask([patterned], f"reg.io/other@sha256:{HEX[0]}").outcome is Outcome.DENY
    answer = ask([patterned], HEX[0])
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, "not-said")
    assert "only a digest was given" in answer.detail
    assert ask([patterned._replace(is_deny=True), entry(2, HEX[0])], HEX[0]).outcome is Outcome.UNKNOWN


def test_a_pattern_that_cannot_be_read_may_deny_but_never_allows() -> None:
    broken = entry(1, pattern="re:(")
    assert ask([broken], f"{REPOSITORY}@sha256:{HEX[0]}").outcome is Outcome.DENY
    answer = ask([broken._replace(is_deny=True), entry(2, HEX[0])], f"{REPOSITORY}@sha256:{HEX[0]}")
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, "unreadable-entry")


@pytest.mark.parametrize("text", ["nginx:1.25", "docker.io/library/nginx:1.25", "INDEX.docker.io/nginx:1.25"])
def test_denied_names_are_denied_under_every_spelling(text: str) -> None:
    for given_as in ("nginx:1.25", "docker.io/nginx:1.25"):
        assert ask([entry(1, given_as, is_deny=True)], text, rules=Rules(Outcome.ALLOW)).outcome is Outcome.DENY
    for pattern in ("docker.io/**", "nginx", "glob:library/*"):
        assert ask([entry(1, pattern=pattern, is_deny=True)], text).outcome is Outcome.DENY


def test_a_tag_in_front_of_a_digest_does_not_allow_the_digest() -> None:
    tagged = entry(1, f"{REPOSITORY}:1.0")
    text = f"{REPOSITORY}:1.0@sha256:{HEX[0]}"
    assert ask([tagged], text).outcome is Outcome.DENY
    assert ask([tagged], text, rules=Rules(tags=TagMode.ANY)).outcome is Outcome.ALLOW
    assert ask([tagged._replace(is_deny=True), entry(2, HEX[0])], text).outcome is Outcome.DENY
    by_tags = entry(1, pattern=REPOSITORY, tags=("1.*",))
    assert ask([by_tags], text).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("mode", "target", "outcome", "reason"),
    [
        (TagMode.CURRENT, KNOWN, Outcome.ALLOW, "allowed"),
        (TagMode.CURRENT, Target(TagState.KNOWN, D[1]), Outcome.DENY, "not-listed"),
        (TagMode.CURRENT, Target(TagState.MISSING), Outcome.UNKNOWN, "tag-unknown"),
        (TagMode.CURRENT, Target(TagState.MOVED), Outcome.UNKNOWN, "tag-moved"),
        (TagMode.CURRENT, Target(TagState.UNASKED), Outcome.UNKNOWN, "tag-unresolved"),
        (TagMode.DIGEST_REQUIRED, KNOWN, Outcome.UNKNOWN, "digest-required"),
        (TagMode.ANY, Target(TagState.UNASKED), Outcome.DENY, "not-listed"),
    ],
)
def test_a_tag_is_answered_as_the_settings_say(mode: TagMode, target: Target, outcome: Outcome, reason: str) -> None:
    answer = ask([entry(1, HEX[0])], f"{REPOSITORY}:1.0", rules=Rules(tags=mode), target=target)
    assert (answer.outcome, answer.reason) == (outcome, reason)
    assert answer.warnings == ((TAG_MOVES,) if outcome is Outcome.ALLOW else ())
    denied = ask([entry(1, f"{REPOSITORY}:1.0", is_deny=True)], f"{REPOSITORY}:1.0", rules=Rules(tags=mode))
    assert denied.outcome is Outcome.DENY


def test_a_name_allows_a_tag_whose_digest_is_known_and_not_denied() -> None:
    for named in (entry(1, f"{REPOSITORY}:1.0"), entry(1, pattern="glob:reg.io/**", tags=("1.*",))):
        assert ask([named], f"{REPOSITORY}:1.0", target=KNOWN).outcome is Outcome.ALLOW
        assert ask([named], f"{REPOSITORY}:1.0").outcome is Outcome.UNKNOWN
        assert ask([named], f"{REPOSITORY}:1.0", rules=Rules(tags=TagMode.ANY)).outcome is Outcome.ALLOW
        assert ask([named, entry(2, HEX[0], is_deny=True)], f"{REPOSITORY}:1.0", target=KNOWN).outcome is Outcome.DENY


def test_other_texts_and_listed_ids_match_literally() -> None:
    assert ask([entry(1, "Build-42")], "Build-42").outcome is Outcome.ALLOW
    assert ask([entry(1, "Build-42")], "build-42").outcome is Outcome.UNKNOWN  # a tag nobody knows
    listed = entry(1, f"{REPOSITORY}:1.0", is_listed=True, tags=("no",), pattern="no")
    for mode in TagMode:
        answer = ask([listed], f"{REPOSITORY}:1.0", rules=Rules(tags=mode))
        assert (answer.outcome, answer.warnings) == (Outcome.ALLOW, (TAG_MOVES,))
    assert ask([listed], "REG.io/team/app:1.0").outcome is Outcome.UNKNOWN


def test_what_is_allowed_reaches_down_and_what_is_denied_both_ways() -> None:
    index, child, config = D[0], D[1], D[2]
    down = (Relation(index, child), Relation(index, config))
    up = (Relation(child, index, is_part=True), Relation(child, config))
    for text in (HEX[1], HEX[2]):
        assert ask([entry(1, HEX[0])], text, relations=down).outcome is Outcome.ALLOW
        assert ask([entry(1, HEX[0], is_deny=True), entry(2, text)], text, relations=down).outcome is Outcome.DENY
    assert ask([entry(1, HEX[1])], HEX[0], relations=up).outcome is Outcome.DENY
    assert ask([entry(1, HEX[1])], HEX[0], relations=up, rules=Rules(Outcome.UNKNOWN)).outcome is Outcome.UNKNOWN
    denied = ask([entry(1, HEX[1], is_deny=True), entry(2, HEX[0])], HEX[0], relations=up)
    assert (denied.outcome, denied.entry_ids, denied.detail) == (Outcome.DENY, (1,), "entry 1 denies a part of this")


def test_an_entry_that_is_put_again_is_the_new_one_and_a_removed_one_is_none() -> None:
    index = AllowIndex()
    for one in (entry(1, HEX[0]), entry(2, "app:1"), entry(3, pattern="glob:**"), entry(1, HEX[1])):
        index.put(one)
    assert (len(index), index.has_digest(D[0]), index.has_digest(D[1])) == (3, False, True)
    for number in (1, 2, 3, 3):
        index.remove(number)
    question = Question(parse_image(f"{REPOSITORY}@sha256:{HEX[1]}"))
    assert (len(index), list(index.candidates(question))) == (0, [])


TEXTS = [*HEX[:3], f"{REPOSITORY}@sha256:{HEX[0]}", f"{REPOSITORY}:1@sha256:{HEX[1]}", f"{REPOSITORY}:1", "Odd"]
entries_drawn = st.lists(
    st.builds(
        AllowEntry,
        id=st.integers(1, 5),
        is_deny=st.booleans(),
        image=st.sampled_from(["", "", "Odd", f"{REPOSITORY}:1"]),
        digest=st.sampled_from([None, *D[:3]]),
        pattern=st.sampled_from(["", "glob:reg.io/**", "glob:x/**", "re:("]),
        clusters=st.sampled_from([(), ("a",)]),
        namespaces=st.just(()),
        tags=st.just(()),
        not_before=st.none(),
        reason=st.just(""),
        is_listed=st.just(False),
        expires_at=st.sampled_from([None, NOW, NOW + DAY]),
    ).filter(lambda one: bool(one.image) or one.digest is not None or bool(one.pattern)),
    max_size=5,
    unique_by=lambda one: one.id,
)
relations_drawn = st.lists(
    st.builds(Relation, st.sampled_from(D[:3]), st.sampled_from(D[:3]), is_part=st.booleans()), max_size=4
)


def oracle(entries: list[AllowEntry], relations: list[Relation], question: Question) -> tuple[bool | None, bool | None]:
    """Whether anything denies, whether anything allows; in tag mode ``any``."""
    denies: list[bool | None] = []
    allows: list[bool | None] = []
    for one in entries:
        parts: list[bool | None] = [one.expires_at is None or one.expires_at > NOW]
        if one.clusters:
            parts.append(question.cluster in one.clusters if question.cluster else None)
        if one.pattern:
            names = question.image.names
            known: bool | None = None if not names else names[0].startswith("reg.io/")
            parts.append(None if one.pattern == "re:(" else False if names and "x/" in one.pattern else known)
        is_part = False
        if one.digest is not None:
            own = question.image.digest
            is_below = own == one.digest or Relation(one.digest, own or b"") in relations
            is_part = not is_below and Relation(one.digest, own or b"", is_part=True) in relations
            parts.append(is_below or is_part)
        elif one.image:
            text = question.image.text
            parts.append(text == one.image or (one.image.endswith(":1") and text.startswith(one.image)))
        fits = False if False in parts else None if None in parts else True
        if one.is_deny:
            denies.append(fits)
        elif not is_part:
            allows.append(False if one.pattern == "re:(" and not fits else fits)
    return _any(denies), _any(allows)


def _any(answers: list[bool | None]) -> bool | None:
    return True if True in answers else None if None in answers else False


@settings(max_examples=600, deadline=None)
@given(entries_drawn, relations_drawn, st.sampled_from(TEXTS), st.sampled_from(["", "a", "b"]), st.randoms())
def test_answers_are_those_of_plain_loops(
    entries: list[AllowEntry], relations: list[Relation], text: str, cluster: str, chance: Any
) -> None:
    relations = [one for one in relations if one.source != one.other]
    question = Question(parse_image(text), cluster, "", NOW)
    denied, allowed = oracle(entries, relations, question)
    wanted = Outcome.DENY
    if denied is not True:
        wanted = Outcome.UNKNOWN if denied is None else Outcome.ALLOW if allowed else Outcome.DENY
        if denied is False and allowed is None:
            wanted = Outcome.UNKNOWN
    answer = ask(entries, text, cluster=cluster, relations=tuple(relations), rules=Rules(tags=TagMode.ANY))
    assert answer.outcome is wanted
    shuffled = chance.sample(entries, len(entries))
    again = ask(shuffled, text, cluster=cluster, relations=tuple(relations[::-1]), rules=Rules(tags=TagMode.ANY))
    assert again == answer
