"""Are the sizes defined as users are told? Every number here is worked out by hand."""

from __future__ import annotations

from regwarden.core.graph import (
    MAX_SUM_BYTES,
    Freed,
    ManifestFacts,
    Measured,
    RegistryFacts,
    RepositoryFacts,
    measure,
    reclaim,
)

BLOBS = {"base": 100, "app": 10, "tool": 20, "config": 1, "other-config": 2, "cache": 7}


def image(*layers: str, config: str = "config", size: int = 1_000, **more) -> ManifestFacts:
    return ManifestFacts(size, layers, (config,), **more)


def index(*children: str, size: int = 5_000, blobs: tuple[str, ...] = ()) -> ManifestFacts:
    return ManifestFacts(size, blobs, children=children, is_index=True)


def repository(name: str, tags: dict[str, str], *also: str, position: int = 0) -> RepositoryFacts:
    return RepositoryFacts(name, tags, frozenset((*tags.values(), *also)), position)


def registry(manifests: dict[str, ManifestFacts], *repositories: RepositoryFacts) -> RegistryFacts:
    return RegistryFacts(manifests, BLOBS, repositories)


def measured(manifests: dict[str, ManifestFacts], *repositories: RepositoryFacts) -> Measured:
    return measure(registry(manifests, *repositories))


def test_an_image_is_its_document_config_and_layers():
    figures = measured({"m": image("base", "app")}, repository("a", {"1": "m"}))
    assert figures.tags["a", "1"].logical == 1_000 + 1 + 100 + 10
    assert figures.tags["a", "1"].layer == 110


def test_a_layer_listed_twice_counts_once():
    figures = measured({"m": image("base", "app", "base")}, repository("a", {"1": "m"}))
    assert figures.tags["a", "1"].logical == 1_111
    assert figures.tags["a", "1"].layer == 110


def test_a_config_that_is_also_a_layer_counts_once():
    figures = measured({"m": image("base", config="base")}, repository("a", {"1": "m"}))
    assert figures.tags["a", "1"].logical == 1_100


def test_an_index_holds_its_children_once_each_at_any_depth():
    manifests = {
        "amd": image("base", "app"),
        "arm": image("tool", config="other-config"),
        "inner": index("amd", "arm", "amd"),
        "outer": index("inner", "amd"),
    }
    figures = measured(manifests, repository("a", {"1": "outer"}, "inner", "amd", "arm"))
    assert figures.tags["a", "1"].logical == 5_000 + 5_000 + 1_111 + 1_022
    assert figures.indexes["inner"] == (5_000 + 1_111 + 1_022, 130)


def test_a_child_missing_in_the_repository_is_left_out_with_what_only_it_holds():
    manifests = {"here": image("base", "app"), "gone": image("base", "tool"), "i": index("here", "gone")}
    figures = measured(manifests, repository("a", {"1": "i"}, "here"), repository("b", {"1": "i"}, "here", "gone"))
    assert figures.tags["a", "1"].logical == 5_000 + 1_111
    assert figures.tags["b", "1"].logical == 5_000 + 1_111 + 1_020
    assert figures.indexes["i"] == (5_000 + 1_111 + 1_020, 130)


def test_a_child_that_was_not_read_is_left_out():
    manifests = {"here": image("app"), "odd": image("tool", is_read=False), "i": index("here", "odd")}
    figures = measured(manifests, repository("a", {"1": "i"}, "here", "odd"))
    assert figures.tags["a", "1"].logical == 5_000 + 1_011


def test_a_tag_without_a_readable_manifest_has_no_figures():
    manifests = {"odd": image("tool", is_read=False), "gone": image("app")}
    dangling = RepositoryFacts("a", {"odd": "odd", "gone": "gone"}, frozenset({"odd"}))
    figures = measured(manifests, dangling)
    assert figures.tags == {}
    assert figures.repositories["a"].stored_all == 0


def test_a_build_cache_index_holds_the_blobs_it_lists_as_layers():
    figures = measured({"i": index(blobs=("cache", "config"))}, repository("a", {"cache": "i"}))
    assert figures.tags["a", "cache"].logical == 5_008
    assert figures.tags["a", "cache"].layer == 8


def test_a_signature_does_not_hold_what_it_signs():
    manifests = {"m": image("base"), "signature": image("app", config="other-config", subject="m")}
    figures = measured(manifests, repository("a", {"1": "m", "sig": "signature"}))
    assert figures.tags["a", "sig"].logical == 1_012


def test_logical_adds_up_tags_and_stored_counts_once():
    figures = measured({"m": image("base"), "n": image("base", "app")}, repository("a", {"1": "m", "2": "n", "3": "n"}))
    assert figures.repositories["a"].logical == 1_101 + 1_111 + 1_111
    assert figures.repositories["a"].stored == 1_000 + 1_000 + 1 + 100 + 10


def test_stored_all_takes_in_untagged_manifests():
    figures = measured({"m": image("base"), "old": image("tool")}, repository("a", {"1": "m"}, "old"))
    assert figures.repositories["a"].stored == 1_101
    assert figures.repositories["a"].stored_all == 1_101 + 1_020
    assert figures.registry.stored_all == 1_101 + 1_020


def test_what_another_repository_holds_too_is_shared():
    manifests = {"m": image("base", "app"), "n": image("base", "tool", config="other-config")}
    figures = measured(manifests, repository("a", {"1": "m"}), repository("b", {"1": "n"}))
    assert (figures.repositories["a"].exclusive, figures.repositories["a"].shared) == (1_011, 100)
    assert (figures.repositories["b"].exclusive, figures.repositories["b"].shared) == (1_022, 100)
    assert figures.registry.stored == 1_011 + 1_022 + 100


def test_untagged_content_elsewhere_does_not_make_content_shared():
    manifests = {"m": image("base"), "old": image("base", "tool", config="other-config")}
    figures = measured(manifests, repository("a", {"1": "m"}), repository("b", {}, "old"))
    assert figures.repositories["a"].exclusive == 1_101


def test_a_tag_whose_manifest_has_another_tag_frees_nothing_alone():
    manifests = {"m": image("base"), "n": image("base", "app", config="other-config")}
    figures = measured(manifests, repository("a", {"1": "m", "latest": "m", "2": "n"}))
    assert figures.tags["a", "1"].exclusive == 0
    assert figures.tags["a", "2"].exclusive == 1_012
    assert figures.manifests["a", "m"] == 1_001


def test_a_manifest_tagged_in_two_repositories_is_exclusive_in_neither():
    figures = measured({"m": image("base")}, repository("a", {"1": "m"}), repository("b", {"1": "m"}))
    assert figures.manifests == {("a", "m"): 0, ("b", "m"): 0}
    assert figures.tags["a", "1"].exclusive == 0


def test_shares_that_do_not_divide_go_to_the_lowest_names_byte_by_byte():
    # 1,000 + 1 + 100 over three: 333 each and one more, 0 each and one more, 33 each and one more.
    both = {"1": "m"}
    figures = measured({"m": image("base")}, repository("b", both), repository("a", both), repository("Z", both))
    shares = {name: one.attributed for name, one in figures.repositories.items()}
    assert shares == {"Z": 369, "a": 366, "b": 366}
    assert sum(shares.values()) == figures.registry.stored


def test_disk_bytes_give_each_layer_to_the_tag_with_the_fewest_layers():
    manifests = {"small": image("base"), "large": image("base", "app")}
    figures = measured(manifests, repository("a", {"large": "large"}), repository("b", {"small": "small"}))
    assert figures.tags["a", "large"].disk == 10
    assert figures.tags["b", "small"].disk == 100
    assert figures.registry.layer == 210
    assert figures.registry.disk == 110


def test_disk_bytes_between_equals_go_by_catalog_order_and_then_by_tag_name():
    tags = {"b": "m", "B": "m"}
    first, second = repository("z", tags, position=1), repository("a", tags, position=2)
    figures = measured({"m": image("base")}, second, first)
    assert {tag: one.disk for tag, one in figures.tags.items()} == {
        ("z", "B"): 100,
        ("z", "b"): 0,
        ("a", "B"): 0,
        ("a", "b"): 0,
    }


def test_sums_stop_at_the_largest_number_a_column_holds():
    blobs = {f"blob-{number}": 2**50 for number in range(2**13)}
    facts = RegistryFacts({"m": ManifestFacts(1, tuple(blobs))}, blobs, (repository("a", {"1": "m", "2": "m"}),))
    figures = measure(facts)
    assert figures.tags["a", "1"].logical == MAX_SUM_BYTES
    assert figures.registry.logical == MAX_SUM_BYTES


def test_deleting_a_tagged_manifest_frees_what_nothing_kept_holds():
    facts = registry({"m": image("base", "app"), "n": image("base", "tool")}, repository("a", {"1": "m", "2": "n"}))
    assert reclaim(facts, ["m"]) == Freed(1_010, 1_000)


def test_what_a_kept_index_lists_is_kept_even_where_it_is_selected():
    facts = registry({"m": image("base"), "i": index("m")}, repository("a", {"1": "i", "m": "m"}))
    assert reclaim(facts, ["m"]) == Freed(0, 0)


def test_deleting_an_index_frees_children_that_stand_for_nothing_else():
    manifests = {"m": image("base"), "n": image("tool", config="other-config"), "i": index("m", "n")}
    facts = registry(manifests, repository("a", {"1": "i", "n": "n"}, "m"))
    assert reclaim(facts, ["i"]) == Freed(5_000 + 1_101, 5_000)


def test_untagged_manifests_that_are_not_selected_are_kept_with_all_they_hold():
    facts = registry({"m": image("base"), "old": image("base", "app")}, repository("a", {"1": "m"}, "old"))
    assert reclaim(facts, ["m"]) == Freed(1_000, 1_000)
    assert reclaim(facts, ["m", "old"]) == Freed(2_111, 2_000)


def test_a_copy_in_a_repository_that_is_not_affected_is_kept():
    facts = registry({"m": image("base")}, repository("a", {"1": "m"}), repository("b", {"1": "m"}))
    assert reclaim(facts, ["m"], ["a"]) == Freed(0, 0)
    assert reclaim(facts, ["m"]) == Freed(1_101, 1_000)


def test_an_untagged_referrer_goes_with_its_subject_and_so_do_its_own():
    manifests = {
        "m": image("base"),
        "signature": image("app", config="other-config", subject="m"),
        "timestamp": image("cache", config="other-config", subject="signature"),
    }
    facts = registry(manifests, repository("a", {"1": "m"}, "signature", "timestamp"))
    assert reclaim(facts, ["m"]) == Freed(1_101 + 1_010 + 1_007 + 2, 1_000)


def test_a_tagged_referrer_stays_without_its_subject():
    manifests = {"m": image("base"), "signature": image("app", subject="m")}
    facts = registry(manifests, repository("a", {"1": "m", "sig": "signature"}))
    assert reclaim(facts, ["m"]) == Freed(1_100, 1_000)


def test_the_referrer_of_a_selected_but_kept_child_is_kept():
    manifests = {"m": image("base"), "i": index("m"), "signature": image("app", subject="m")}
    facts = registry(manifests, repository("a", {"1": "i"}, "m", "signature"))
    assert reclaim(facts, ["m"]) == Freed(0, 0)


def test_a_referrer_that_lists_its_own_subject_keeps_both_until_it_is_selected():
    manifests = {"m": image("base"), "r": ManifestFacts(5_000, children=("m",), subject="m", is_index=True)}
    facts = registry(manifests, repository("a", {}, "m", "r"))
    assert reclaim(facts, []) == Freed(0, 0)
    assert reclaim(facts, ["m"]) == Freed(0, 0)
    assert reclaim(facts, ["r"]) == Freed(5_000 + 1_101, 5_000)
