"""Does exactly that go which nothing needs, in an order that may break off anywhere?"""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.holding import Held
from regwarden.core.lifting import Lifted, Terms, lift
from regwarden.core.observed import Hold, ObservedManifest, ObservedRepository, TagState
from regwarden.core.plan import StepKind
from regwarden.core.recency import is_young, last_touched
from regwarden.core.retention_roots import list_roots
from regwarden.core.special_tags import special_kind, subject_of
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from tests.observed import (
    DAY,
    JUST_NOW,
    LONG_AGO,
    NOW,
    after,
    digest_of,
    manifest,
    repositories,
    repository,
    signature_tag,
    tag,
)

TERMS = Terms(now=NOW, can_untag=True, min_age=DAY)


def judged(
    observed: ObservedRepository, removed: set[str], *, terms: Terms = TERMS, undecided: frozenset[str] = frozenset()
) -> RepositoryVerdicts:
    """What rules would decide that take the tags, and untagged digests, named in ``removed``."""
    verdicts = []
    for root in list_roots(observed, is_explicit=not terms.follows_subjects):
        key = root.tag or root.digest
        touched_at = last_touched(root.manifest, root.entry)
        if root.manifest is None or key in undecided:
            outcome, code = Outcome.UNDECIDED, ReasonCode.UNREADABLE
        elif terms.held.find(root.tag, root.digest) is not None:
            outcome, code = Outcome.KEEP, ReasonCode.PROTECTED
        elif root.special is not None and key not in removed:
            outcome, code = Outcome.KEEP, ReasonCode.SPECIAL
        elif key in removed and is_young(touched_at, terms.min_age, NOW):
            outcome, code = Outcome.KEEP, ReasonCode.MINIMUM_AGE
        else:
            removes = key in removed
            outcome = Outcome.REMOVE if removes else Outcome.KEEP
            code = ReasonCode.DELETED if removes else ReasonCode.DEFAULT_KEEP
        verdicts.append(Verdict(root.tag, root.digest, outcome, (Reason(code),)))
    return RepositoryVerdicts(registry="prod", repository=observed.name, verdicts=tuple(verdicts))


def lifted(observed: ObservedRepository, *removed: str | int, terms: Terms = TERMS) -> Lifted:
    keys = {digest_of(one) if isinstance(one, int) else one for one in removed}
    return lift(observed, judged(observed, keys, terms=terms), terms)


def deleted(result: Lifted) -> list[int]:
    return [int(step.digest[7:], 16) for step in result.steps if step.kind is StepKind.DELETE]


def untagged(result: Lifted) -> list[str]:
    return [step.tags[0] for step in result.steps if step.kind is StepKind.UNTAG]


def verdict_of(result: Lifted, key: str | int) -> Verdict:
    digest = digest_of(key) if isinstance(key, int) else None
    return next(
        one
        for one in result.verdicts.verdicts
        if (one.tag == key if digest is None else not one.tag and one.digest == digest)
    )


def why(result: Lifted, key: str | int) -> tuple[Outcome, ReasonCode, str]:
    verdict = verdict_of(result, key)
    return verdict.outcome, verdict.reasons[0].code, verdict.reasons[0].detail


def test_a_manifest_goes_with_all_its_tags_at_once():
    result = lifted(repository({"a": 1, "b": 1, "c": 2}), "a", "b")
    (step,) = result.steps
    assert (step.kind, step.digest, step.tags, step.size_bytes) == (StepKind.DELETE, digest_of(1), ("a", "b"), 101)
    assert why(result, "a") == (Outcome.REMOVE, ReasonCode.DELETED, "")


def test_one_of_several_tags_is_removed_alone_and_never_its_digest():
    result = lifted(repository({"a": 1, "b": 1}), "a")
    (step,) = result.steps
    assert (step.kind, step.tags, step.with_placeholder) == (StepKind.UNTAG, ("a",), False)


def test_where_the_registry_cannot_untag_the_tag_stays_and_says_so():
    result = lifted(repository({"a": 1, "b": 1}), "a", terms=replace(TERMS, can_untag=False))
    assert result.steps == ()
    assert result.not_untagged == ("a",)
    assert why(result, "a") == (Outcome.KEEP, ReasonCode.GUARDED, "cannot-untag")


def test_with_a_placeholder_a_tag_is_removed_where_the_registry_cannot():
    terms = replace(TERMS, can_untag=False, with_placeholders=True)
    (step,) = lifted(repository({"a": 1, "b": 1}), "a", terms=terms).steps
    assert (step.kind, step.with_placeholder) == (StepKind.UNTAG, True)


def test_children_go_with_the_last_index_that_lists_them_and_after_it():
    both = repository({"a": 10, "b": 11}, manifest(10, 1, 2), manifest(11, 2, 3), *map(manifest, (1, 2, 3)))
    assert deleted(lifted(both, "a")) == [10, 1]
    everything = deleted(lifted(both, "a", "b"))
    assert sorted(everything) == [1, 2, 3, 10, 11]
    assert everything.index(2) > max(everything.index(10), everything.index(11))


def test_nested_indexes_go_from_the_outside():
    nested = repository({"a": 30}, manifest(30, 20, 1), manifest(20, 10), manifest(10, 1), manifest(1))
    assert deleted(lifted(nested, "a")) == [30, 20, 10, 1]


def test_a_child_of_an_index_that_stays_loses_only_its_tag():
    observed = repository({"multi": 10, "amd64": 1}, manifest(10, 1))
    result = lifted(observed, "amd64")
    assert (deleted(result), untagged(result)) == ([], ["amd64"])


def test_a_child_that_has_a_tag_of_its_own_stays_when_its_index_goes():
    observed = repository({"multi": 10, "amd64": 1}, manifest(10, 1, 2), manifest(2))
    assert deleted(lifted(observed, "multi")) == [10, 2]


def test_children_that_do_not_exist_here_are_no_obstacle():
    assert deleted(lifted(repository({"a": 10}, manifest(10, 1, 2), manifest(2)), "a")) == [10, 2]


def test_an_index_without_a_tag_keeps_its_children_too():
    observed = repository({"amd64": 1}, manifest(10, 1))
    assert (deleted(lifted(observed, "amd64")), untagged(lifted(observed, "amd64"))) == ([], ["amd64"])
    assert deleted(lifted(observed, "amd64", 10)) == [10, 1]


def test_referrers_follow_their_subject_over_several_rounds():
    observed = repository({"a": 1}, manifest(2, subject=1), manifest(3, subject=2), manifest(4, subject=3))
    assert deleted(lifted(observed, "a")) == [1, 2, 3, 4]
    assert lifted(observed, "other").steps == ()


def test_a_referrer_of_a_child_follows_it():
    observed = repository({"a": 10}, manifest(10, 1), manifest(1), manifest(5, subject=1))
    assert deleted(lifted(observed, "a")) == [10, 1, 5]


def test_a_referrer_with_a_tag_that_stays_keeps_its_subject_with_its_tags():
    observed = repository({"a": 1, "sbom": 2}, manifest(2, subject=1))
    result = lifted(observed, "a")
    assert result.steps == ()
    assert why(result, "a") == (Outcome.KEEP, ReasonCode.NEEDED, f"{digest_of(2)} refers to it and stays")


def test_explicit_referrers_stay_unless_they_are_decided_about():
    terms = replace(TERMS, follows_subjects=False)
    observed = repository({"a": 1}, manifest(2, subject=1))
    assert lifted(observed, "a", terms=terms).steps == ()
    assert deleted(lifted(observed, "a", 2, terms=terms)) == [1, 2]


def test_a_special_tag_goes_after_its_subject_and_says_so():
    observed = repository({"a": 1, signature_tag(1): 2, "b": 3, signature_tag(3): 4})
    result = lifted(observed, "a")
    assert deleted(result) == [1, 2]
    assert why(result, signature_tag(1)) == (Outcome.REMOVE, ReasonCode.SUBJECT_REMOVED, digest_of(1))
    assert why(result, signature_tag(3))[:2] == (Outcome.KEEP, ReasonCode.SPECIAL)


def test_a_special_tag_that_tells_only_the_beginning_of_a_digest_goes_with_it():
    image, index = (f"sha512:{number:0128x}" for number in (1 << 256, 2 << 256))
    name = f"sha512-{image[7:71]}"
    observed = replace(
        repository({}),
        manifests={digest: manifest(1)._replace(digest=digest) for digest in (image, index)},
        tags=(tag("a", 1)._replace(digest=image), tag(name, 1)._replace(digest=index)),
    )
    result = lifted(observed, "a")
    assert [(step.digest, step.tags) for step in result.steps] == [(image, ("a",)), (index, (name,))]
    assert why(result, name) == (Outcome.REMOVE, ReasonCode.SUBJECT_REMOVED, image)


def test_a_special_tag_stays_where_referrers_are_explicit():
    observed = repository({"a": 1, signature_tag(1): 2})
    assert deleted(lifted(observed, "a", terms=replace(TERMS, follows_subjects=False))) == [1]


def test_a_signature_of_a_moment_ago_keeps_its_subject_until_it_is_older():
    observed = repository({"a": 1, signature_tag(1): 2})
    young = replace(observed, tags=(tag("a", 1), tag(signature_tag(1), 2, tagged_at=JUST_NOW)))
    assert lifted(young, "a").steps == ()
    assert deleted(lifted(young, "a", terms=replace(TERMS, min_age=DAY * 0))) == [1, 2]


def test_a_signature_that_also_has_a_tag_that_stays_is_kept():
    result = lifted(repository({"a": 1, signature_tag(1): 2, "release-signature": 2}), "a")
    assert deleted(result) == [1]
    assert verdict_of(result, signature_tag(1)).outcome is Outcome.KEEP


def test_a_signature_of_which_only_another_tag_was_meant_keeps_its_subject():
    observed = repository({"a": 1, signature_tag(1): 2, "also": 2})
    decided = judged(observed, {"a", "also"})
    shared = (Reason(ReasonCode.SELECTED), Reason(ReasonCode.SHARED))
    changed = tuple(one._replace(reasons=shared) if one.tag == "also" else one for one in decided.verdicts)
    result = lift(observed, replace(decided, verdicts=changed), TERMS)
    assert [(step.kind, step.tags) for step in result.steps] == [(StepKind.UNTAG, ("also",))]
    assert why(result, "a") == (Outcome.KEEP, ReasonCode.NEEDED, f"{digest_of(2)} refers to it and stays")


def test_a_fallback_tag_goes_between_its_subject_and_the_referrers_that_it_lists():
    name = signature_tag(1).removesuffix(".sig")
    observed = repository({"a": 1, name: 10}, manifest(10, 2, 3), manifest(2, subject=1), manifest(3, subject=1))
    assert deleted(lifted(observed, "a")) == [1, 10, 2, 3]
    assert lifted(observed, "other").steps == ()


def test_tags_that_sign_each_other_stay():
    observed = repository({"a": 5, signature_tag(1): 2, signature_tag(2): 1})
    assert deleted(lifted(observed, "a")) == [5]


def test_what_waits_for_a_knot_goes_nevertheless():
    # The index lists what its tag signs: the one should go before the other, and the other before it.
    observed = repository({"a": 1, signature_tag(1): 10, "b": 2}, manifest(10, 1), manifest(2, subject=1))
    result = lifted(observed, "a", "b")
    assert (deleted(result), untagged(result)) == ([2], ["a"])


def test_an_index_may_have_a_subject_among_its_children():
    observed = repository({"a": 10}, manifest(10, 1, subject=1), manifest(1))
    assert deleted(lifted(observed, "a")) == [10, 1]
    deeper = repository({"a": 20}, manifest(20, 10, subject=1), manifest(10, 1), manifest(1))
    assert deleted(lifted(deeper, "a")) == [20, 10, 1]


def test_what_refers_to_something_goes_after_it_also_for_a_reason_of_its_own():
    observed = repository({"z": 9, "sbom": 2}, manifest(9), manifest(2, subject=9))
    assert deleted(lifted(observed, "z", "sbom")) == [9, 2]


@pytest.mark.parametrize(
    "recent",
    [
        manifest(1, last_pushed_at=JUST_NOW),
        manifest(1, first_seen_at=JUST_NOW),
        manifest(1, untagged_since=JUST_NOW),
    ],
)
def test_a_child_that_somebody_pushed_or_untagged_a_moment_ago_stays(recent):
    observed = repository({"a": 10}, manifest(10, 1, 2), recent, manifest(2))
    assert deleted(lifted(observed, "a")) == [10, 2]


def test_a_child_that_is_held_stays_and_a_held_referrer_keeps_its_subject():
    observed = repository({"a": 10}, manifest(10, 1, 2), manifest(1), manifest(2))
    hold = Hold(id=1, registry="prod", repository="team/app", digest=digest_of(1))
    assert deleted(lifted(observed, "a", terms=replace(TERMS, held=Held(digests={digest_of(1): hold})))) == [10, 2]
    signed = repository({"a": 2}, manifest(1, subject=2))
    assert lifted(signed, "a", terms=replace(TERMS, held=Held(digests={digest_of(1): hold}))).steps == ()


def test_one_unread_manifest_keeps_its_whole_repository():
    observed = repository({"a": 1, "b": 2}, manifest(3, is_read=False))
    result = lifted(observed, "a")
    assert result.steps == ()
    assert why(result, "a") == (Outcome.UNDECIDED, ReasonCode.UNREADABLE, f"{digest_of(3)} could not be read")


def test_a_doubtful_repository_is_kept_whole():
    result = lifted(repository({"a": 1, "b": 2}, doubt="its tags were not read to the end"), "a")
    assert result.steps == ()
    assert why(result, "a") == (Outcome.UNDECIDED, ReasonCode.DOUBTFUL, "its tags were not read to the end")


def test_a_tag_of_which_nobody_knows_what_it_points_to_keeps_the_whole_repository():
    observed = repository({"a": 1, "b": 2})
    unknown = tag("x", None)._replace(state=TagState.UNREADABLE)
    assert lifted(replace(observed, tags=(*observed.tags, unknown)), "a").steps == ()
    assert deleted(lifted(replace(observed, tags=(*observed.tags, tag("x", None))), "a")) == [1]


def test_a_tag_that_no_verdict_is_about_keeps_its_manifest():
    observed = repository({"a": 1})
    verdicts = judged(observed, {"a"})
    result = lift(replace(observed, tags=(*observed.tags, tag("new", 1))), verdicts, TERMS)
    assert (deleted(result), untagged(result)) == ([], ["a"])


def test_an_untagged_manifest_that_no_verdict_is_about_stays():
    observed = repository({"a": 1}, manifest(2))
    verdicts = judged(observed, {"a"})
    without = replace(verdicts, verdicts=verdicts.verdicts[:1])
    assert deleted(lift(observed, without, TERMS)) == [1]


def test_a_verdict_about_what_moved_meanwhile_removes_nothing():
    verdicts = judged(repository({"a": 1}), {"a"})
    result = lift(repository({"a": 2, "b": 1}), verdicts, TERMS)
    assert result.steps == ()
    assert verdict_of(result, "a").outcome is Outcome.UNDECIDED


def test_a_selection_without_untag_leaves_a_tag_whose_manifest_is_needed():
    result = lifted(repository({"a": 1, "b": 1}), "a", terms=replace(TERMS, untags=False))
    assert why(result, "a") == (Outcome.KEEP, ReasonCode.NEEDED, "the tag b stays on it")


# Properties: an oracle that takes away from everything what may not go, until nothing more has to be taken away.


def goes_by_itself(observed: ObservedRepository, result: RepositoryVerdicts, terms: Terms, digest: str) -> bool:
    """Whether nothing about the manifest alone keeps it; subjects of what follows are looked at elsewhere."""
    tags = [one for one in observed.tags if one.digest == digest]
    for one in tags:
        verdict = next(each for each in result.verdicts if each.tag == one.name)
        if verdict.outcome is not Outcome.REMOVE and not followed_by(observed, result, terms, one.name):
            return False
    if tags:
        return True
    verdict_of_root = next((each for each in result.verdicts if not each.tag and each.digest == digest), None)
    if verdict_of_root is not None:
        return verdict_of_root.outcome is Outcome.REMOVE
    is_recent = is_young(last_touched(observed.manifests[digest]), terms.min_age, NOW)
    return not is_recent and terms.held.find("", digest) is None


def followed_by(observed: ObservedRepository, result: RepositoryVerdicts, terms: Terms, name: str) -> set[str]:
    """The existing subjects of a special tag that follows them; empty if it does not follow."""
    verdict = next(one for one in result.verdicts if one.tag == name)
    entry = next(one for one in observed.tags if one.name == name)
    if verdict.outcome is not Outcome.KEEP or verdict.reasons[0].code is not ReasonCode.SPECIAL:
        return set()
    if not terms.follows_subjects or entry.digest is None:
        return set()
    if is_young(last_touched(observed.manifests[entry.digest], entry), terms.min_age, NOW):
        return set()
    named = {subject_of(name), observed.manifests[entry.digest].subject}
    return {one for one in named if one is not None and one in observed.manifests}


def needs(observed: ObservedRepository, result: RepositoryVerdicts, terms: Terms, digest: str) -> set[str]:
    """What has to go for a manifest to go: indexes that list it, what refers to it, the subjects that it follows."""
    found = {one.digest for one in observed.manifests.values() if digest in one.children or one.subject == digest}
    for one in observed.tags:
        special = one.digest is not None and special_kind(one.name, observed.manifests[one.digest]) is not None
        if one.digest == digest:
            verdict = next(each for each in result.verdicts if each.tag == one.name)
            found |= followed_by(observed, result, terms, one.name) if verdict.outcome is Outcome.KEEP else set()
        elif special and terms.follows_subjects and digest == subject_of(one.name):
            verdict = next(each for each in result.verdicts if each.tag == one.name)
            if verdict.outcome is not Outcome.REMOVE and not followed_by(observed, result, terms, one.name):
                found.add(str(one.digest))
    subject = observed.manifests[digest].subject
    is_tagged = any(one.digest == digest for one in observed.tags)
    is_root = any(not each.tag and each.digest == digest for each in result.verdicts)
    if terms.follows_subjects and not is_tagged and not is_root and subject in observed.manifests:
        found.add(str(subject))
    return found


def oracle(observed: ObservedRepository, result: RepositoryVerdicts, terms: Terms) -> set[str]:
    gone = {digest for digest in observed.manifests if goes_by_itself(observed, result, terms, digest)}
    while True:
        stuck = {digest for digest in gone if not needs(observed, result, terms, digest) <= gone}
        if not stuck:
            return gone
        gone -= stuck


def can_be_ordered(observed: ObservedRepository, result: RepositoryVerdicts, terms: Terms, gone: set[str]) -> bool:
    """Whether parents can go before children and subjects before what follows them."""
    before: dict[str, set[str]] = {digest: set() for digest in gone}
    for digest in gone:
        for child in set(observed.manifests[digest].children) & gone:
            before[child].add(digest)
        before[digest] |= needs(observed, result, terms, digest) & gone
    for digest in gone:
        referrers = {one for one in gone if observed.manifests[one].subject == digest}
        before[digest] -= {one for one in referrers if digest not in observed.manifests[one].children}
    try:
        tuple(TopologicalSorter(before).static_order())
    except CycleError:
        return False
    return True


@st.composite
def cases(draw: st.DrawFn) -> tuple[ObservedRepository, set[str], Terms]:
    observed = draw(repositories())
    keys = [*(one.name for one in observed.tags), *observed.manifests]
    removed = set(draw(st.lists(st.sampled_from(keys), unique=True))) if draw(st.booleans()) else set(keys)
    removed -= set() if draw(st.booleans()) else {key for key in removed if key.startswith("sha256-")}
    held = draw(st.sampled_from([None] * 3 + sorted(observed.manifests)))
    hold = Hold(id=1, registry="prod", repository="team/app", digest=held or "")
    terms = Terms(
        now=NOW,
        held=Held(digests={held: hold} if held else {}),
        follows_subjects=draw(st.sampled_from([True, True, False])),
        can_untag=draw(st.booleans()),
        with_placeholders=draw(st.booleans()),
        min_age=DAY,
    )
    return observed, removed, terms


@given(cases())
def test_exactly_that_goes_which_nothing_that_stays_needs(case):
    observed, removed, terms = case
    verdicts = judged(observed, removed, terms=terms)
    expected = oracle(observed, verdicts, terms)
    result = lift(observed, verdicts, terms)
    found = {step.digest for step in result.steps if step.kind is StepKind.DELETE}
    assert found <= expected
    if can_be_ordered(observed, verdicts, terms, expected):
        assert found == expected


@given(cases())
def test_after_any_number_of_steps_nothing_that_exists_has_lost_what_it_leads_to(case):
    observed, removed, terms = case
    result = lift(observed, judged(observed, removed, terms=terms), terms)
    kept_tags = {one.tag: one.digest for one in result.verdicts.verdicts if one.outcome is not Outcome.REMOVE}
    for count in range(len(result.steps) + 1):
        now = after(observed, result.steps[:count])
        for one in now.manifests.values():
            assert {child for child in one.children if child in observed.manifests} <= now.manifests.keys()
        left = {one.name: one.digest for one in now.tags}
        assert {name: left[name] for name in kept_tags if name} == {k: v for k, v in kept_tags.items() if k}
        assert {v for v in left.values() if v is not None} <= now.manifests.keys()
    for one in now.manifests.values():
        assert one.subject not in observed.manifests or one.subject in now.manifests


@given(cases())
def test_every_root_has_one_verdict_with_a_reason_and_goes_exactly_if_it_says_so(case):
    observed, removed, terms = case
    verdicts = judged(observed, removed, terms=terms)
    result = lift(observed, verdicts, terms)
    before = [(one.tag, one.digest) for one in verdicts.verdicts]
    assert [(one.tag, one.digest) for one in result.verdicts.verdicts] == before
    steps_by_tag = [name for step in result.steps for name in step.tags]
    assert len(set(steps_by_tag)) == len(steps_by_tag)
    assert [step.position for step in result.steps] == list(range(len(result.steps)))
    gone = after(observed, result.steps)
    names = {one.name for one in gone.tags}
    for one, first in zip(result.verdicts.verdicts, verdicts.verdicts, strict=True):
        assert one.reasons
        exists = one.tag in names if one.tag else one.digest in gone.manifests
        assert exists == (one.outcome is not Outcome.REMOVE)
        if first.outcome is Outcome.REMOVE and one.outcome is Outcome.KEEP:
            assert one.reasons[0].code in (ReasonCode.NEEDED, ReasonCode.GUARDED)
            assert one.reasons[0].detail
            assert one.digest in gone.manifests
        if first.outcome is Outcome.KEEP and one.outcome is Outcome.REMOVE:
            assert one.reasons[0].code is ReasonCode.SUBJECT_REMOVED
            assert one.reasons[0].detail not in gone.manifests


@given(cases())
def test_after_the_steps_there_is_nothing_left_to_do(case):
    observed, removed, terms = case
    result = lift(observed, judged(observed, removed, terms=terms), terms)
    now = after(observed, result.steps)
    again = lift(now, judged(now, removed, terms=terms), terms)
    assert again.steps == ()


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_facts_does_not_matter(case, random):
    observed, removed, terms = case
    verdicts = judged(observed, removed, terms=terms)
    tags, manifests, shuffled = list(observed.tags), list(observed.manifests.items()), list(verdicts.verdicts)
    for one in (tags, manifests, shuffled):
        random.shuffle(one)
    mixed = replace(observed, tags=tuple(tags), manifests=dict(manifests))
    assert lift(mixed, replace(verdicts, verdicts=tuple(shuffled)), terms) == lift(observed, verdicts, terms)


@given(cases(), st.data())
def test_keeping_one_more_never_makes_more_go(case, data):
    observed, removed, terms = case
    fewer = set(data.draw(st.lists(st.sampled_from(sorted(removed)), unique=True))) if removed else set()
    # A special tag that no rule takes follows: what rules say about those is left as it is.
    fewer |= {key for key in removed if key.startswith("sha256-")}
    more = lift(observed, judged(observed, removed, terms=terms), terms)
    less = lift(observed, judged(observed, fewer, terms=terms), terms)
    assert set(deleted(less)) <= set(deleted(more))


class Counted(dict[str, ObservedManifest]):
    """Manifests that count how often one is looked up."""

    count = 0

    def __getitem__(self, key: str) -> ObservedManifest:
        self.count += 1
        return super().__getitem__(key)


def test_the_work_grows_in_proportion_to_the_repository():
    looked_up = []
    for size in (300, 3_000):
        observed = _tall_repository(size)
        manifests = Counted(observed.manifests)
        counted = replace(observed, manifests=manifests)
        result = lifted(counted, *(each.name for each in observed.tags[::2]))
        assert len(result.steps) == size // 2 * 5
        looked_up.append(manifests.count)
    assert looked_up[1] <= looked_up[0] * 11


def _tall_repository(count: int) -> ObservedRepository:
    tags = {f"t{number:06}": number * 10 for number in range(1, count + 1)}
    manifests = []
    for number in tags.values():
        manifests += [manifest(number, number + 1, number + 2), manifest(number + 1), manifest(number + 2)]
        manifests += [manifest(number + 3, subject=number), manifest(number + 4, subject=number + 1)]
    return repository(tags, *manifests)


def test_the_clock_of_the_model_is_old_enough():
    assert LONG_AGO < NOW - DAY < JUST_NOW
