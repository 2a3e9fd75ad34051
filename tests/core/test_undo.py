"""An undo puts back exactly what a plan took away, in an order that a registry accepts, or says what is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step, StepKind
from regwarden.core.undo import (
    Findings,
    Kept,
    Loss,
    LossCode,
    Mount,
    Present,
    Restore,
    Taken,
    Undo,
    build_undo,
    read_kept,
)
from regwarden.core.undo_choice import Choice, choose, list_taken, parse_choice
from regwarden.errors import InputError, NotFound

PLACE = ("prod", "team/app")
ELSEWHERE = ("prod", "team/other")


def undo(taken, kept, present=None, **findings) -> Undo:
    here = {PLACE: present} if present is not None else {}
    return build_undo(taken, {one.digest: one for one in kept}, here, Findings(**findings))


def taken(position: int, digest: str, *tags: str, place: tuple[str, str] = PLACE) -> Taken:
    return Taken(position, *place, digest, tags)


def kept(digest: str, *children: str, blobs: tuple[str, ...] = (), subject: str | None = None) -> Kept:
    return Kept(digest, "manifest", children, subject, tuple((blob, 10) for blob in blobs))


def names(result: Undo) -> list[str]:
    return [one.tag or one.digest for one in result.restores]


MULTI = (kept("index", "amd", "arm"), kept("amd", blobs=("base", "a")), kept("arm", blobs=("base", "b")))
MULTI_TAKEN = (taken(0, "index", "1.0", "latest"), taken(1, "amd"), taken(2, "arm"))


def test_children_come_before_their_index_and_tags_last():
    assert names(undo(MULTI_TAKEN, MULTI)) == ["amd", "arm", "index", "1.0", "latest"]


def test_a_referrer_comes_after_its_subject_and_before_tags():
    signature = kept("a signature", subject="index")
    result = undo((*MULTI_TAKEN, taken(3, "a signature")), (*MULTI, signature))
    assert names(result) == ["amd", "arm", "index", "a signature", "1.0", "latest"]


def test_an_index_below_an_index_comes_before_it():
    outer = (kept("outer", "zinner", "amd"), kept("zinner", "arm"), kept("amd"), kept("arm"))
    assert names(undo((taken(0, "outer", "1"),), outer)) == ["amd", "arm", "zinner", "outer", "1"]


def test_what_an_index_leads_to_comes_back_with_it_even_if_only_the_index_is_asked_for():
    result = undo(MULTI_TAKEN[:1], MULTI)
    assert names(result) == ["amd", "arm", "index", "1.0", "latest"]
    assert {one.position for one in result.restores} == {0}


def test_a_manifest_is_noted_under_its_own_step():
    assert [(one.digest, one.position) for one in undo(MULTI_TAKEN, MULTI).restores[:3]] == [
        ("amd", 1),
        ("arm", 2),
        ("index", 0),
    ]


def test_a_put_names_what_must_have_succeeded_before():
    restores = undo(MULTI_TAKEN, MULTI).restores
    assert [one.needs for one in restores] == [(), (), ("amd", "arm"), ("index",), ("index",)]


def test_what_is_there_is_not_put_again():
    present = Present({"1.0": "index"}, frozenset({"amd", "index"}))
    result = undo(MULTI_TAKEN, MULTI, present)
    assert names(result) == ["arm", "latest"]
    assert result.restores[1].needs == ()
    everything = Present({"1.0": "index", "latest": "index"}, frozenset({"amd", "arm", "index"}))
    result = undo(MULTI_TAKEN, MULTI, everything)
    assert result.restores == ()
    assert [one.position for one in result.returning] == [0, 1, 2]


def test_an_untagged_manifest_gets_its_tag_back_without_being_put_by_digest():
    result = undo((taken(0, "amd", "old"),), MULTI, Present({}, frozenset({"amd"})))
    assert result.restores == (Restore(0, *PLACE, "amd", "old"),)


def test_an_untagged_manifest_that_went_meanwhile_is_put_back_whole():
    assert names(undo((taken(0, "index", "old"),), MULTI, Present({}, frozenset()))) == ["amd", "arm", "index", "old"]


def test_a_tag_that_points_elsewhere_is_left_alone_and_reported():
    present = Present({"latest": "newer"}, frozenset({"newer"}))
    result = undo(MULTI_TAKEN, MULTI, present)
    assert names(result) == ["amd", "arm", "index", "1.0"]
    assert result.losses == (Loss(LossCode.TAG_MOVED, 0, *PLACE, "index", tag="latest", now="newer"),)


def test_a_tag_of_which_nobody_knows_where_it_points_is_left_alone():
    result = undo((taken(0, "amd", "1"),), MULTI, Present({"1": None}, frozenset()))
    assert names(result) == ["amd"]
    assert result.losses == (Loss(LossCode.TAG_MOVED, 0, *PLACE, "amd", tag="1"),)


def test_of_two_steps_that_took_a_tag_the_later_one_has_it():
    result = undo((taken(0, "amd", "1"), taken(1, "arm", "1")), MULTI)
    assert [(one.digest, one.tag) for one in result.restores if one.tag] == [("arm", "1")]
    assert result.losses == (Loss(LossCode.TAG_MOVED, 0, *PLACE, "amd", tag="1", now="arm"),)


def test_an_index_comes_back_only_with_all_its_children():
    result = undo(MULTI_TAKEN, MULTI, unreadable={PLACE: frozenset({"b"})})
    assert names(result) == ["amd"]
    assert result.losses == (
        Loss(LossCode.BLOB_GONE, 0, *PLACE, "index", missing="b", needed_by="arm"),
        Loss(LossCode.BLOB_GONE, 2, *PLACE, "arm", missing="b", needed_by="arm"),
    )


def test_a_child_nobody_kept_holds_its_index_back():
    result = undo((taken(0, "index", "1"),), MULTI[:2])
    assert result.restores == ()
    assert result.losses == (Loss(LossCode.NOT_KEPT, 0, *PLACE, "index", missing="arm", needed_by="arm"),)


def test_a_tag_whose_manifest_nobody_kept_is_a_loss():
    result = undo((taken(0, "amd", "1"),), (), Present({}, frozenset({"amd"})))
    assert result.losses == (Loss(LossCode.NOT_KEPT, 0, *PLACE, "amd", missing="amd", needed_by="amd"),)


def test_a_blob_that_another_repository_has_is_mounted_from_there():
    findings = {"unreadable": {PLACE: frozenset({"b"})}, "sources": {("prod", "b"): ("team/z", "team/app", "team/b")}}
    result = undo(MULTI_TAKEN, MULTI, **findings)
    assert result.mounts == (Mount(*PLACE, "b", "team/b"),)
    assert result.losses == ()
    assert len(result.restores) == 5


def test_a_source_in_another_registry_is_none():
    findings = {"unreadable": {PLACE: frozenset({"b"})}, "sources": {("other", "b"): ("team/b",)}}
    assert undo(MULTI_TAKEN, MULTI, **findings).mounts == ()


def test_every_blob_of_what_comes_back_is_to_be_proven_and_nothing_else():
    result = undo(MULTI_TAKEN, MULTI, Present({}, frozenset({"amd"})))
    assert [(one.digest, one.size_bytes) for one in result.proofs] == [("b", 10), ("base", 10)]


def test_nothing_is_put_where_nothing_can_be_written():
    result = undo(
        (*MULTI_TAKEN, taken(3, "amd", place=ELSEWHERE)), MULTI, unwritable={PLACE: "the registry is read-only"}
    )
    assert [one.repository for one in result.restores] == ["team/other"]
    assert {one.code for one in result.losses} == {LossCode.NOT_WRITABLE}
    assert {one.now for one in result.losses} == {"the registry is read-only"}


def test_what_is_there_is_no_loss_where_nothing_can_be_written():
    present = Present({"1": "amd"}, frozenset({"amd"}))
    result = undo((taken(0, "amd", "1"),), MULTI, present, unwritable={PLACE: "no"})
    assert result.losses == ()
    assert [one.position for one in result.returning] == [0]


def document(**parts) -> bytes:
    return json.dumps({"schemaVersion": 2, **parts}).encode()


def described(content: bytes, media_type: str, **more) -> dict:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def test_the_bytes_of_a_manifest_tell_what_it_needs():
    layer = described(b"layer", "application/vnd.oci.image.layer.v1.tar")
    foreign = described(b"far", "application/vnd.oci.image.layer.v1.tar", urls=["https://example.com/far"])
    config, subject = described(b"config", media_types.OCI_CONFIG), described(b"subject", media_types.OCI_MANIFEST)
    payload = document(config=config, layers=[layer, layer, foreign], subject=subject)
    digest = str(Digest.of(payload))
    assert read_kept(digest, media_types.OCI_MANIFEST, payload) == Kept(
        digest,
        media_types.OCI_MANIFEST,
        subject=str(Digest.of(b"subject")),
        blobs=((str(Digest.of(b"layer")), 5), (str(Digest.of(b"config")), 6)),
    )


def test_the_bytes_of_an_index_name_its_children_once_each():
    child = described(b"child", media_types.OCI_MANIFEST)
    payload = document(mediaType=media_types.OCI_INDEX, manifests=[child, child])
    assert read_kept(str(Digest.of(payload)), media_types.OCI_INDEX, payload).children == (child["digest"],)


def test_bytes_that_are_others_are_refused():
    with pytest.raises(InputError) as refused:
        read_kept(str(Digest.of(b"one")), media_types.OCI_MANIFEST, b"two")
    assert refused.value.code == "damaged-trash"


# ------------------------------------------------------------------------------------------------- choosing

DIGEST = "sha256:" + "a" * 64


def step(position: int, digest: str = DIGEST, *tags: str, kind: StepKind = StepKind.DELETE) -> Step:
    return Step(position=position, kind=kind, registry="prod", repository="team/app", digest=digest, tags=tags)


def test_a_deletion_took_also_the_tags_that_came_after_planning():
    assert list_taken([step(0, DIGEST, "1")], {0: ("2", "1")}) == (taken(0, DIGEST, "1", "2"),)


def test_an_untagging_took_its_tag_alone():
    assert list_taken([step(0, DIGEST, "1", kind=StepKind.UNTAG)], {0: ("1", "2")}) == (taken(0, DIGEST, "1"),)


def test_steps_are_named_by_number_tag_and_digest():
    other = "sha256:" + "b" * 64
    assert parse_choice(["17", "team/app:1.0", DIGEST, f"team/app@{other}"]) == Choice(
        frozenset({17}), frozenset({("team/app", "1.0")}), frozenset({DIGEST}), frozenset({("team/app", other)})
    )
    assert parse_choice([]).is_everything


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("team/app", "bad-choice"),
        (f"team/app:1@{DIGEST}", "bad-choice"),
        ("localhost:5000/team/app:1", "bad-choice"),
        ("-1", "bad-reference"),
        ("sha256:12", "bad-digest"),
        ("1" * 40, "bad-choice"),
    ],
)
def test_what_names_no_step_is_refused(word, code):
    with pytest.raises(InputError) as refused:
        parse_choice([word])
    assert refused.value.code == code


def test_a_tag_brings_back_itself_and_not_its_siblings():
    every = (taken(0, "index", "1.0", "latest"), taken(1, "amd", "a"))
    assert choose(every, Choice(tags=frozenset({("team/app", "latest")}))) == (taken(0, "index", "latest"),)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(positions=frozenset({0})),
        Choice(digests=frozenset({"index"})),
        Choice(places=frozenset({("team/app", "index")})),
    ],
)
def test_a_number_or_digest_brings_back_the_whole_step(choice):
    every = (taken(0, "index", "1.0", "latest"), taken(1, "amd", "a"))
    assert choose(every, choice) == every[:1]


def test_nothing_named_is_everything():
    assert choose((taken(1, "amd"), taken(0, "index"))) == (taken(0, "index"), taken(1, "amd"))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(positions=frozenset({0, 9})), "step 9"),
        (Choice(tags=frozenset({("team/app", "2")})), "team/app:2"),
        (Choice(digests=frozenset({"gone"})), "gone"),
        (Choice(places=frozenset({("team/other", "index")})), "team/other@index"),
    ],
)
def test_what_was_not_removed_is_not_found(choice, said):
    with pytest.raises(NotFound, match=said) as refused:
        choose((taken(0, "index", "1"),), choice)
    assert refused.value.code == "step-not-found"


# ---------------------------------------------------------------------------------------- a model of a registry


@dataclass
class Model:
    """A registry of one repository that refuses what a real one would: an index without its children."""

    content: dict[str, Kept]
    tags: dict[str, str] = field(default_factory=dict)
    manifests: set[str] = field(default_factory=set)

    def delete(self, digest: str) -> None:
        self.manifests.discard(digest)
        self.tags = {tag: other for tag, other in self.tags.items() if other != digest}

    def put(self, restore: Restore) -> None:
        assert set(self.content[restore.digest].children) <= self.manifests, "a parent before its child"
        self.manifests.add(restore.digest)
        if restore.tag:
            self.tags[restore.tag] = restore.digest

    def present(self) -> dict[tuple[str, str], Present]:
        return {PLACE: Present(dict(self.tags), frozenset(self.manifests))}


@st.composite
def repositories(draw) -> Model:
    """Manifests in layers: each may list and refer to earlier ones."""
    count = draw(st.integers(1, 8))
    content: dict[str, Kept] = {}
    for number in range(count):
        earlier = st.sampled_from(sorted(content)) if content else st.nothing()
        children = draw(st.lists(earlier, unique=True, max_size=3)) if content else []
        subject = draw(st.none() | earlier) if content else None
        blobs = draw(st.lists(st.sampled_from("xyz"), unique=True, max_size=2))
        # Names in an order of their own, so that sorting by name is no order of putting.
        name = f"{draw(st.integers(0, 9))}-{number}"
        content[name] = kept(name, *children, blobs=tuple(blobs), subject=subject)
    tags = draw(st.dictionaries(st.sampled_from(["1", "2", "3", "4", "5"]), st.sampled_from(sorted(content))))
    return Model(content, tags, set(content))


@st.composite
def plans(draw, model: Model) -> list[tuple[Taken, bool]]:
    """Deletions, parents first as a plan has them, and untaggings; with whether each is one."""
    doomed: list[str] = []
    for digest in reversed(list(model.content)):
        parents = [name for name, one in model.content.items() if digest in one.children]
        if all(parent in doomed for parent in parents) and draw(st.booleans()):
            doomed.append(digest)
    untagged = [tag for tag, digest in sorted(model.tags.items()) if digest not in doomed and draw(st.booleans())]
    steps = [(taken(at, model.tags[tag], tag), False) for at, tag in enumerate(untagged)]
    for digest in doomed:
        tags = sorted(tag for tag, other in model.tags.items() if other == digest)
        steps.append((taken(len(steps), digest, *tags), True))
    return steps


def apply(model: Model, steps: list[tuple[Taken, bool]]) -> None:
    for one, is_deletion in steps:
        if is_deletion:
            model.delete(one.digest)
        else:
            model.tags.pop(one.tags[0], None)


@given(st.data())
def test_applying_any_part_of_a_plan_and_undoing_it_changes_nothing(data):
    model = data.draw(repositories())
    before = dict(model.tags), set(model.manifests)
    steps = data.draw(plans(model))
    done = steps[: data.draw(st.integers(0, len(steps)))]
    apply(model, done)
    # What was never done is there still, so it may be asked for as well.
    asked = [one for one, _ in data.draw(st.sampled_from([done, steps]))]
    result = build_undo(asked, model.content, model.present())
    broken_off = data.draw(st.integers(0, len(result.restores)))
    for restore in result.restores[:broken_off]:
        model.put(restore)
    for restore in build_undo(asked, model.content, model.present()).restores:
        model.put(restore)
    assert (model.tags, model.manifests) == before
    again = build_undo(asked, model.content, model.present())
    assert (again.restores, again.mounts, again.losses) == ((), (), ())
    assert len(again.returning) == len(asked)


@given(st.data())
def test_whatever_is_lost_nothing_is_put_that_a_registry_refuses_and_every_step_is_accounted_for(data):
    model = data.draw(repositories())
    steps = data.draw(plans(model))
    apply(model, steps)
    gone = data.draw(st.frozensets(st.sampled_from("xyz")))
    forgotten = data.draw(st.frozensets(st.sampled_from(sorted(model.content)), max_size=2))
    known = {name: one for name, one in model.content.items() if name not in forgotten}
    asked = [one for one, _ in steps]
    result = build_undo(asked, known, model.present(), Findings(unreadable={PLACE: gone}))
    for restore in result.restores:
        model.put(restore)  # asserts the order
        assert not restore.tag or restore.digest in model.manifests
        assert gone.isdisjoint(blob for blob, _ in known[restore.digest].blobs) or restore.tag
    lost = {one.position for one in result.losses}
    assert lost | {one.position for one in result.returning} == {one.position for one in asked}
    assert lost.isdisjoint(one.position for one in result.returning)
    for one in result.returning:
        assert one.digest in model.manifests
        assert all(model.tags[tag] == one.digest for tag in one.tags)


@given(st.data())
def test_the_order_of_the_input_does_not_matter(data):
    model = data.draw(repositories())
    steps = data.draw(plans(model))
    apply(model, steps)
    asked = [one for one, _ in steps]
    shuffled = dict(data.draw(st.permutations(sorted(model.content.items()))))
    first = build_undo(asked, model.content, model.present())
    assert build_undo(data.draw(st.permutations(asked)), shuffled, model.present()) == first
