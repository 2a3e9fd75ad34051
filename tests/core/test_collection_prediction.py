"""What a collection should free is what the removed manifests were and what nothing else needs."""

from __future__ import annotations

from regwarden.core.collection_prediction import (
    Prediction,
    RemovedBlob,
    RemovedManifest,
    choose_sample,
    expect,
    predict,
)
from regwarden.core.collection_runbook import Expected
from regwarden.core.graph import Confidence
from regwarden.core.plan import PlanSizes
from regwarden.core.undo import Kept


def removed(digest: str, size_bytes: int, *blobs: tuple[str, int], repository: str = "team/app") -> RemovedManifest:
    return RemovedManifest(repository, Kept(digest, "manifest", blobs=blobs), size_bytes)


ONE = removed("one", 500, ("base", 100), ("a", 10))
TWO = removed("two", 600, ("base", 100), ("b", 20), repository="team/lib")


def test_documents_and_blobs_count_once_each():
    assert predict([ONE, TWO, ONE]).size_bytes == 500 + 600 + 100 + 10 + 20


def test_what_is_still_needed_stays():
    found = predict([ONE, TWO]).without({"base", "two"})
    assert found.size_bytes == 500 + 10 + 20
    assert set(found.blobs) == {"a", "b"}


def test_of_different_declared_sizes_the_smallest_counts():
    assert predict([ONE, removed("x", 1, ("a", 3))]).blobs["a"].size_bytes == 3


def test_a_manifest_that_is_also_a_layer_counts_once():
    assert predict([ONE, removed("x", 1, ("one", 500))]).size_bytes == 500 + 1 + 100 + 10


def test_a_blob_is_looked_for_in_the_first_repository_that_had_it():
    assert predict([TWO, ONE]).blobs["base"] == RemovedBlob("team/app", "base", 100)


def test_an_exact_plan_is_exact_and_another_is_sure_of_nothing():
    prediction = predict([ONE])
    exact = PlanSizes(reclaimable_bytes=9, lower_bound_bytes=9, confidence=Confidence.EXACT)
    bounded = PlanSizes(reclaimable_bytes=9, lower_bound_bytes=5, confidence=Confidence.UPPER_BOUND)
    assert expect(prediction, exact) == Expected(at_most_bytes=610, at_least_bytes=610)
    assert expect(prediction, bounded) == Expected(at_most_bytes=610, at_least_bytes=0)
    assert expect(prediction, None) == Expected(at_most_bytes=610)


def test_the_sample_are_the_largest_blobs():
    prediction = predict([ONE, TWO])
    assert [one.digest for one in choose_sample(prediction, 2)] == ["base", "b"]
    assert len(choose_sample(prediction, 9)) == 3
    assert choose_sample(Prediction({}, {}), 9) == ()
