"""Does the proof of plans find what breaks something, only that, and whatever bytes it is given?"""

from __future__ import annotations

import ast
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regwarden.core import proof
from regwarden.core.proof import Change, Finding, check, examine
from tests.proof_worlds import (
    REPOSITORY,
    World,
    delete,
    descriptor,
    digest_of,
    harm_of,
    image_bytes,
    index_bytes,
    random_world,
    untag,
)


def findings(evidence) -> set[Finding]:
    return {one.finding for one in check(evidence)}


def notes(evidence) -> set[Finding]:
    found = examine(evidence)
    assert found.violations == ()
    return {one.finding for one in found.notes}


@pytest.fixture
def world() -> World:
    """Two platforms under an index under an index, tagged ``1``; another image tagged ``2`` and ``also``."""
    made = World()
    amd, arm = made.image("amd"), made.image("arm")
    made.tags["1"] = made.index("outer", made.index("inner", amd, arm), amd)
    made.tags["2"] = made.tags["also"] = made.image("two")
    return made


def named(world: World, name: str) -> str:
    return next(
        digest
        for digest, payload in world.manifests.items()
        if payload == image_bytes(name) or json.loads(payload).get("annotations") == {"name": name}
    )


def test_the_proof_imports_the_standard_library_alone():
    tree = ast.parse(Path(proof.__file__).read_text(encoding="utf-8"))
    imported = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {one.partition(".")[0] for one in imported} <= sys.stdlib_module_names
    assert "hashlib" in imported


def test_a_plan_without_steps_harms_nothing(world):
    found = examine(world.evidence([]))
    assert (found.violations, found.notes, found.manifest_count) == ((), (), 5)
    assert found.edge_count == 4


def test_an_index_goes_with_what_it_lists_parents_first(world):
    outer, inner, amd, arm = (named(world, one) for one in ("outer", "inner", "amd", "arm"))
    assert check(world.evidence([delete(outer, "1"), delete(inner), delete(amd), delete(arm)])) == ()


def test_a_child_before_its_index_is_found_wherever_it_stands(world):
    outer, inner, amd, arm = (named(world, one) for one in ("outer", "inner", "amd", "arm"))
    found = check(world.evidence([delete(outer, "1"), delete(amd), delete(inner), delete(arm)]))
    assert [(one.finding, one.subject) for one in found] == [(Finding.ORDER, amd)]
    assert inner in found[0].text


def test_a_child_of_an_index_that_stays_may_not_go_however_deep_it_is(world):
    assert findings(world.evidence([delete(named(world, "arm"))])) == {Finding.LISTED}


def test_a_second_tag_that_no_step_names_is_found(world):
    two = named(world, "two")
    assert findings(world.evidence([delete(two, "2")])) == {Finding.TAG_LEFT}
    assert check(world.evidence([delete(two, "2", "also")])) == ()
    assert check(world.evidence([untag(two, "also"), delete(two, "2")])) == ()
    assert findings(world.evidence([delete(two, "2"), untag(two, "also")])) == {Finding.TAG_LEFT}
    assert check(world.evidence([untag(two, "also")])) == ()


def test_steps_about_what_is_not_there_are_found(world):
    two, outer = named(world, "two"), named(world, "outer")
    cases = [
        ([delete(digest_of(b"x"))], Finding.UNKNOWN_MANIFEST),
        ([untag(two, "3")], Finding.UNKNOWN_TAG),
        ([untag(outer, "2")], Finding.TAG_MOVED),
        ([delete(two, "2", "also"), delete(two)], Finding.REPEATED),
        ([untag(two, "2"), untag(two, "2")], Finding.REPEATED),
        ([untag(two, "2", repository="team/app2")], Finding.WRONG_REPOSITORY),
        ([untag(two, "2")._replace(registry="other")], Finding.WRONG_REPOSITORY),
        ([untag(two, "2")._replace(kind="purge")], Finding.BAD_STEP),
        ([untag(two, "2")._replace(tags=("2", "also"))], Finding.BAD_STEP),
        ([untag(two, "2")._replace(tags=())], Finding.BAD_STEP),
    ]
    for steps, expected in cases:
        assert expected in findings(world.evidence(steps)), expected


def test_what_is_protected_or_kept_stays_as_digest_and_as_tag(world):
    two = named(world, "two")
    gone = [delete(two, "2", "also")]
    for name in ("2", "also", two):
        assert findings(world.evidence(gone, protected=frozenset({name}))) == {Finding.PROTECTED}
        assert findings(world.evidence(gone, kept=frozenset({name}))) == {Finding.KEPT}
    assert findings(world.evidence([untag(two, "2")], protected=frozenset({"2"}))) == {Finding.PROTECTED}
    assert check(world.evidence(gone, protected=frozenset({"1", digest_of(b"elsewhere")}))) == ()


def test_a_tag_that_may_lead_anywhere_proves_nothing(world):
    gone = [delete(named(world, "two"), "2", "also")]
    for target in (None, digest_of(b"not here")):
        tags = {**world.tags, "odd": target}
        assert findings(world.evidence(gone, tags=tags)) == {Finding.TARGET_UNKNOWN}
        assert check(world.evidence(gone, tags=tags, dangling=frozenset({"odd"}))) == ()


def test_bytes_that_are_missing_or_of_another_digest_prove_nothing(world):
    two, arm = named(world, "two"), named(world, "arm")
    less = {digest: payload for digest, payload in world.manifests.items() if digest != arm}
    assert findings(world.evidence([untag(two, "2")], manifests=less)) == {Finding.MISSING_BYTES}
    changed = {**world.manifests, arm: world.manifests[arm] + b" "}
    assert findings(world.evidence([untag(two, "2")], manifests=changed)) == {Finding.WRONG_BYTES}
    for digest in ("sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:abc", "", "x"):
        odd = {**world.manifests, digest: b"{}"}
        assert findings(world.evidence([], manifests=odd, existing=odd)) == {Finding.WRONG_BYTES}


def test_a_tagged_referrer_keeps_its_subject_and_an_untagged_one_is_told_of(world):
    two = named(world, "two")
    gone = [delete(two, "2", "also")]
    referrer = world.image("bill of materials", subject=two)
    assert notes(world.evidence(gone)) == {Finding.ORPHANED}
    assert findings(world.evidence(gone, protected=frozenset({referrer}))) == {Finding.SUBJECT_OF_KEPT}
    world.tags["sbom"] = referrer
    assert findings(world.evidence(gone)) == {Finding.SUBJECT_OF_KEPT}
    del world.tags["sbom"]
    world.index("keeps the referrer", referrer)
    assert findings(world.evidence(gone)) == {Finding.SUBJECT_OF_KEPT}


def test_an_untagged_referrer_goes_with_or_after_its_subject_or_if_somebody_named_it(world):
    two = named(world, "two")
    referrer = world.image("signature", subject=two)
    assert findings(world.evidence([delete(referrer)])) == {Finding.REFERRER_OF_KEPT}
    assert check(world.evidence([delete(referrer)], named=frozenset({referrer}))) == ()
    assert notes(world.evidence([delete(two, "2", "also"), delete(referrer)])) == set()
    assert notes(world.evidence([delete(referrer), delete(two, "2", "also")])) == {Finding.REFERRER_FIRST}
    world.tags["signature"] = referrer
    assert notes(world.evidence([delete(referrer, "signature")])) == set()


def test_a_referrer_that_only_an_index_lists_goes_with_it(world):
    referrer = world.image("attestation", subject=named(world, "two"))
    index = world.tags["3"] = world.index("three", referrer)
    assert notes(world.evidence([delete(index, "3"), delete(referrer)])) == {Finding.INDEX_TAKES_REFERRER}


@pytest.mark.parametrize("suffix", [".sig", ".att", ".sbom", ""])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_special_tags_stay_and_go_with_their_subject(suffix, algorithm):
    world = World()
    subject = world.tags["1"] = world.image("subject", algorithm=algorithm)
    signature = world.index("signature") if not suffix else world.image("signature")
    tag = world.tag_about(subject, suffix, signature)
    assert findings(world.evidence([delete(subject, "1")])) == {Finding.SUBJECT_OF_KEPT}
    assert findings(world.evidence([delete(signature, tag)])) == {Finding.REFERRER_OF_KEPT}
    assert findings(world.evidence([untag(signature, tag)])) == {Finding.REFERRER_OF_KEPT}
    assert check(world.evidence([delete(signature, tag)], named=frozenset({tag}))) == ()
    assert notes(world.evidence([delete(subject, "1"), delete(signature, tag)])) == set()
    assert notes(world.evidence([delete(signature, tag), delete(subject, "1")])) == {Finding.REFERRER_FIRST}
    uncut = subject.replace(":", "-") + suffix
    tags = {"1": subject, uncut: signature}
    assert findings(world.evidence([delete(subject, "1")], tags=tags)) == {Finding.SUBJECT_OF_KEPT}
    dangling = {**world.tags, tag: None}
    alone = {subject: world.manifests[subject]}
    evidence = world.evidence(
        [delete(subject, "1")], tags=dangling, manifests=alone, existing=alone, dangling=frozenset({tag})
    )
    assert check(evidence) == ()


def test_where_signatures_must_be_named_those_that_nobody_named_are_left_over():
    world = World()
    subject = world.tags["1"] = world.image("subject")
    signature = world.image("signature")
    tag = world.tag_about(subject, ".sig", signature)
    steps = [delete(subject, "1")]
    assert findings(world.evidence(steps)) == {Finding.SUBJECT_OF_KEPT}
    assert notes(world.evidence(steps, leaves_special_tags=True)) == {Finding.ORPHANED}
    unnamed = world.evidence([delete(signature, tag)], leaves_special_tags=True)
    assert findings(unnamed) == {Finding.REFERRER_OF_KEPT}


def test_a_fallback_tag_is_left_over_where_its_list_stays_for_another_reason():
    world = World()
    one, two = world.image("one"), world.image("two")
    world.tags |= {"1": one, "2": two}
    empty = world.index("no referrers at all")  # the same for every image
    about_one, about_two = (world.tag_about(subject, "", empty) for subject in (one, two))
    steps = [delete(one, "1")]
    assert notes(world.evidence(steps)) == {Finding.ORPHANED}
    assert findings(world.evidence(steps, protected=frozenset({about_one}))) == {Finding.SUBJECT_OF_KEPT}
    both = [delete(one, "1"), delete(two, "2")]
    assert findings(world.evidence(both)) == {Finding.SUBJECT_OF_KEPT}
    assert notes(world.evidence([*both, delete(empty, about_one, about_two)])) == set()
    world.tags["3"] = world.index("lists it", empty)
    assert notes(world.evidence(both)) == {Finding.ORPHANED}


def _document(**changed) -> bytes:
    return json.dumps({**json.loads(index_bytes("x", [])), **changed}).encode()


HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "a text": b'"x"',
    "two encodings": index_bytes("x", []).decode().encode("utf-16"),
    "no UTF-8": index_bytes("x", []).replace(b'"x"', b'"\xff"'),
    "a mark in front": b"\xef\xbb\xbf" + index_bytes("x", []),
    "more after it": index_bytes("x", []) + b"{}",
    "schema 1": _document(schemaVersion=1, fsLayers=[], manifests=None),
    "schema 1 without a number": b'{"fsLayers": [], "history": []}',
    "a later schema": _document(schemaVersion=3),
    "an unknown kind": _document(mediaType="application/vnd.example+json"),
    "a kind that is no text": _document(mediaType=["x"]),
    "an image that lists manifests": _document(mediaType="application/vnd.oci.image.manifest.v1+json"),
    "both kinds": _document(config=descriptor(digest_of(b"c")), mediaType=""),
    "neither kind": b'{"schemaVersion": 2}',
    "a key twice": b'{"schemaVersion": 2, "manifests": [], "manifests": []}',
    "a key twice further down": b'{"schemaVersion": 2, "manifests": [], "annotations": {"a": "1", "a": "2"}}',
    "a key in two cases": b'{"schemaVersion": 2, "manifests": [], "Manifests": []}',
    "a key in another case": b'{"schemaVersion": 2, "config": {}, "layers": [], "MANIFESTS": []}',
    "a key with a folding letter": '{"schemaVersion": 2, "config": {}, "\u017fubject": {}}'.encode(),
    "manifests that are no list": _document(manifests={"digest": digest_of(b"c")}),
    "an entry that is no object": _document(manifests=[digest_of(b"c")]),
    "an entry without digest": _document(manifests=[{"size": 3}]),
    "an entry with a number": _document(manifests=[{"digest": 3}]),
    "an entry with a short digest": _document(manifests=[{"digest": "sha256:abc"}]),
    "an entry with two digests": _document(manifests=[{"digest": digest_of(b"c"), "Digest": digest_of(b"d")}]),
    "a subject that is a text": _document(subject=digest_of(b"c")),
    "no number": b'{"schemaVersion": 2, "manifests": [], "x": NaN}',
    "a long number": b'{"schemaVersion": 2, "manifests": [], "x": ' + b"1" * 10_000 + b"}",
    "deep lists": b'{"schemaVersion": 2, "manifests": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"schemaVersion": 2, "manifests": [], "x": ' + b'{"x":' * 90_000 + b"1" + b"}" * 90_001,
    "depth behind texts": b'{"schemaVersion": 2, "manifests": [], "\\"": "]]]\\\\", "x": '
    + b"[" * 33
    + b"]" * 33
    + b"}",
    "wide": b'{"schemaVersion": 2, "manifests": [], "x": [' + b"[]," * 210_000 + b"[]]}",
    "large": _document(x="y" * 4 * 1024 * 1024),
    "a text without end": b'{"schemaVersion": 2, "manifests": [], "x": "' + b'\\"' * 1_000_000 + b"{" * 50,
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_readers_could_understand_differently_proves_nothing(payload):
    world = World()
    odd = digest_of(payload)
    world.manifests[odd] = payload
    assert {(one.finding, one.subject) for one in check(world.evidence([]))} == {(Finding.UNREADABLE, odd)}


@pytest.mark.parametrize(
    "payload",
    [
        index_bytes("x", []),
        _document(mediaType=""),
        _document(mediaType=None, subject=None),
        _document(mediaType="Application/vnd.OCI.image.index.v1+json; charset=utf-8"),
        _document(annotations={"deep": "[" * 5_000 + '"' + "{" * 5_000, "Deep": "in a text only"}),
        _document(entries=[[[one]] for one in range(1_000)]),
        b'{"mediaType": "application/vnd.oci.image.index.v1+json"}',
        b'{"schemaVersion": 2, "config": null, "layers": []}',
    ],
)
def test_what_is_unusual_but_clear_is_read(payload):
    world = World()
    world.manifests[digest_of(payload)] = payload
    assert check(world.evidence([])) == ()


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@example(b'{"manifests": [{"digest": {}}]}')
def test_no_bytes_make_the_proof_stumble(payload):
    world = World()
    world.manifests[digest_of(payload)] = payload
    assert findings(world.evidence([])) <= {Finding.UNREADABLE}


def _tree() -> st.SearchStrategy[object]:
    keys = st.sampled_from(["manifests", "subject", "digest", "config", "layers", "mediaType", "schemaVersion", "x"])
    leaves = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from([digest_of(b"c"), "", "x"])
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5))


@given(_tree())
def test_no_document_makes_the_proof_stumble(document):
    payload = json.dumps(document).encode()
    world = World()
    world.manifests[digest_of(payload)] = payload
    assert findings(world.evidence([])) <= {Finding.UNREADABLE}


def _random_steps(world: World, dice: random.Random) -> list[Change]:
    steps = []
    tags_of: dict[str, list[str]] = {digest: [] for digest in world.manifests}
    for tag, digest in world.tags.items():
        tags_of[digest].append(tag)
    # In most cases parents stand before children, so that plans without harm are frequent.
    for digest in reversed(world.manifests):
        if dice.random() < 0.5:
            tags = tags_of[digest]
            if tags and dice.random() < 0.1:
                tags = tags[1:]
            steps.append(delete(digest, *tags))
        elif tags_of[digest] and dice.random() < 0.3:
            steps.append(untag(digest, dice.choice(tags_of[digest])))
    if dice.random() < 0.2:
        dice.shuffle(steps)
    if steps and dice.random() < 0.05:
        steps.append(dice.choice(steps))
    if steps and dice.random() < 0.05:
        steps[0] = steps[0]._replace(repository=REPOSITORY + "2")
    return steps


@settings(max_examples=400)
@given(st.integers(0, 2**32))
def test_the_proof_and_carrying_it_out_agree_on_any_steps(seed):
    world, dice = random_world(seed), random.Random(seed)
    steps = _random_steps(world, dice)
    assert bool(check(world.evidence(steps))) == bool(harm_of(world, steps)), harm_of(world, steps)


def test_the_order_of_what_is_given_changes_nothing():
    for seed in range(40):
        world, dice = random_world(seed), random.Random(seed)
        steps = _random_steps(world, dice)
        shuffled = World(**{**vars(world), "manifests": dict(reversed(world.manifests.items()))})
        tags = dict(reversed(world.tags.items()))
        assert examine(world.evidence(steps)) == examine(shuffled.evidence(steps, tags=tags))
