"""On any repository a translated policy removes only what the system itself would; the same where no report says more.

The simulators are written from what the systems do, not from the importers: an image is its number, ages are days.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.importers.api import Severity
from tests.imported_rules import Image, codes, digest_of, imported, removed

NAMES = (
    *("latest", "v1", "v1.0.0", "v1.1.0", "v2.0.0", "main", "main-2", "my-main", "release-1", "pre-release-1"),
    *(f"{kind}-{number}" for kind in ("dev", "pr") for number in range(1, 7)),
)


@st.composite
def repositories(draw: st.DrawFn) -> tuple[Image, ...]:
    """Some images with distinct ages; every tag was set after its image was pushed, and all that is over a day ago."""
    ages = iter(draw(st.lists(st.integers(25, 1500), unique=True, min_size=40, max_size=40)))
    names = iter(draw(st.permutations(NAMES)))
    images = []
    for tag_count in draw(st.lists(st.sampled_from([0, 1, 1, 2, 4]), max_size=5)):
        own = sorted((next(ages) + 0.5) / 24 for _ in range(tag_count + 1))
        pulled = draw(st.one_of(st.none(), st.floats(0.1, own[-1])))
        images.append(Image(own[-1], {next(names): age for age in own[:-1]}, pulled))
    return tuple(images)


def all_of(images: Sequence[Image], numbers: set[int]) -> set[str]:
    """The tags of images, or their digests where they have none."""
    found: set[str] = set()
    for number in numbers:
        found |= set(images[number].tags) or {digest_of(number)}
    return found


# GitLab


@st.composite
def gitlab_policies(draw: st.DrawFn) -> dict[str, Any]:
    """Cleanup policies as people write them, with and without a group around alternatives."""
    regexes = [".*", "dev-.*", "dev|pr-.*", "(?:dev|pr)-.*", r"^dev-\d$", "main|release-.*", "main|x|1", "[a|v].*"]
    return {
        "enabled": True,
        "cadence": "7d",
        "name_regex": draw(st.sampled_from(regexes)),
        "name_regex_keep": draw(st.sampled_from([None, "", "v.*", "latest|v1.*", "(?:main|v2).*"])),
        "keep_n": draw(st.sampled_from([None, 1, 2, 5])),
        "older_than": draw(st.sampled_from([None, "7d", "14d", "30d"])),
    }


def simulate_gitlab(policy: dict[str, Any], images: Sequence[Image], *, page_size: int = 1000) -> set[str]:
    """Tags by pages in the order of names: not latest, by name, all but the newest, then by age."""
    ages = {tag: age for image in images for tag, age in image.tags.items()}
    names = sorted(ages)
    gone: set[str] = set()
    for start in range(0, len(names), page_size):
        page = [name for name in names[start : start + page_size] if name != "latest"]
        page = [name for name in page if re.search(rf"\A{policy['name_regex']}\Z", name)]
        if kept := policy["name_regex_keep"]:
            page = [name for name in page if not re.search(rf"\A{kept}\Z", name)]
        page.sort(key=lambda name: ages[name])
        page = page[policy["keep_n"] or 0 :]
        days = int((policy["older_than"] or "0d").removesuffix("d"))
        gone |= {name for name in page if ages[name] > days}
    return gone


@given(policy=gitlab_policies(), images=repositories())
def test_gitlab_policies_remove_the_same(policy, images):
    translated = imported(json.dumps(policy), "gitlab")
    assert removed(translated, images) == simulate_gitlab(policy, images)
    assert codes(translated, Severity.KEEPS_MORE) == []


@given(policy=gitlab_policies(), images=repositories())
def test_more_than_gitlab_goes_only_beyond_its_page_and_is_reported(policy, images):
    translated = imported(json.dumps(policy), "gitlab")
    paged = simulate_gitlab(policy, images, page_size=3)
    if removed(translated, images) != paged:
        assert paged < removed(translated, images)
        assert codes(translated, Severity.REMOVES_MORE) == ["count-per-page"]


# Harbor

GLOBS = {
    "**": ["*"],
    "": ["*"],
    "dev-*": ["dev-*"],
    "{dev-*,pr-*}": ["dev-*", "pr-*"],
    "v?.*": ["v?.*"],
    "latest": ["latest"],
    "*[12]": ["*[12]"],
}


@st.composite
def harbor_rules(draw: st.DrawFn) -> dict[str, Any]:
    """One rule of any template."""
    template = draw(
        st.sampled_from(
            ["always", "latestPushedK", "latestPulledN", "latestActiveK", "nDaysSinceLastPush", "nDaysSinceLastPull"]
        )
    )
    number = draw(st.sampled_from([0, 1, 2, 10] if template.startswith("latest") else [3, 14, 40]))
    selector = {
        "kind": "doublestar",
        "decoration": draw(st.sampled_from(["matches", "matches", "excludes"])),
        "pattern": draw(st.sampled_from(sorted(GLOBS))),
    }
    if (untagged := draw(st.sampled_from([None, True, False]))) is not None:
        selector["extras"] = json.dumps({"untagged": untagged})
    return {
        "disabled": draw(st.sampled_from([False, False, False, True])),
        "action": "retain",
        "template": template,
        "params": {} if template == "always" else {template: number},
        "tag_selectors": [selector],
        "scope_selectors": {
            "repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}],
        },
    }


def selected_by_harbor(selector: dict[str, Any], image: Image) -> bool:
    """Whether some tag matches, or with excludes some tag does not; for untagged images what the extras say."""
    is_excluding = selector["decoration"] == "excludes"
    with_untagged = json.loads(selector["extras"])["untagged"] if "extras" in selector else not is_excluding
    if not image.tags:
        return bool(with_untagged) != is_excluding
    return any(any(fnmatchcase(tag, glob) for glob in GLOBS[selector["pattern"]]) != is_excluding for tag in image.tags)


def simulate_harbor(rules: list[dict[str, Any]], images: Sequence[Image]) -> set[str]:
    """Everything but the union of what the rules retain; the clock of an image is that of its newest tag."""
    retained: set[int] = set()
    never = 10_000.0
    pushed = {number: min(image.pushed, *image.tags.values(), image.pushed) for number, image in enumerate(images)}
    pulled = {number: never if image.pulled is None else image.pulled for number, image in enumerate(images)}
    for rule in rules:
        if rule["disabled"]:
            continue
        found = [number for number in pushed if selected_by_harbor(rule["tag_selectors"][0], images[number])]
        count = rule["params"].get(rule["template"], 0)
        match rule["template"]:
            case "always":
                retained |= set(found)
            case "nDaysSinceLastPush":
                retained |= {number for number in found if pushed[number] < count}
            case "nDaysSinceLastPull":
                retained |= {number for number in found if pulled[number] < count}
            case "latestPushedK":
                retained |= set(sorted(found, key=lambda number: pushed[number])[:count])
            case "latestPulledN":
                retained |= set(sorted(found, key=lambda number: pulled[number])[:count])
            case "latestActiveK":
                retained |= set(sorted(found, key=lambda number: min(pushed[number], pulled[number]))[:count])
    return all_of(images, set(pushed) - retained)


@given(rules=st.lists(harbor_rules(), min_size=1, max_size=4), images=repositories())
def test_harbor_rules_remove_no_more_and_the_same_where_nothing_is_reported(rules, images):
    if all(rule["disabled"] for rule in rules):
        return
    translated = imported(json.dumps({"algorithm": "or", "rules": rules}), "harbor")
    ours, theirs = removed(translated, images), simulate_harbor(rules, images)
    assert ours <= theirs
    assert codes(translated, Severity.REMOVES_MORE) == []
    if not codes(translated, Severity.KEEPS_MORE):
        assert ours == theirs


# ECR


@st.composite
def ecr_policies(draw: st.DrawFn) -> dict[str, Any]:
    """Rules with distinct priorities; one about any image comes last, as ECR demands."""
    rules = list(draw(st.lists(ecr_rules(["tagged", "tagged", "untagged"]), min_size=1, max_size=4)))
    if draw(st.booleans()):
        rules.append(draw(ecr_rules(["any"])))
    for priority, rule in enumerate(rules, 1):
        rule["rulePriority"] = priority * 10
    return {"rules": draw(st.permutations(rules))}


@st.composite
def ecr_rules(draw: st.DrawFn, statuses: list[str]) -> dict[str, Any]:
    """One rule; some of them move to the archive."""
    status = draw(st.sampled_from(statuses))
    selection: dict[str, Any] = {"tagStatus": status}
    if status == "tagged":
        lists = {"tagPrefixList": ["v", "dev-", "pr-", "main"], "tagPatternList": ["v*.0", "dev-*", "latest", "*-1"]}
        key = draw(st.sampled_from(sorted(lists)))
        selection[key] = draw(st.lists(st.sampled_from(lists[key]), min_size=1, max_size=2, unique=True))
    if draw(st.booleans()):
        selection |= {"countType": "imageCountMoreThan", "countNumber": draw(st.sampled_from([1, 2, 9999]))}
    else:
        days = draw(st.sampled_from([3, 14, 30]))
        selection |= {"countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}
    action = draw(st.sampled_from(["expire", "expire", "expire", "transition"]))
    archive = {"targetStorageClass": "archive"} if action == "transition" else {}
    return {"selection": selection, "action": {"type": action, **archive}}


def selected_by_ecr(selection: dict[str, Any], image: Image) -> bool:
    """Whether an image has a tag for every entry of the list; a star is anything."""
    if selection["tagStatus"] != "tagged":
        return selection["tagStatus"] == "any" or not image.tags
    globs = [f"{prefix}*" for prefix in selection.get("tagPrefixList", [])] or selection["tagPatternList"]
    return all(any(fnmatchcase(tag, glob) for tag in image.tags) for glob in globs)


def simulate_ecr(policy: dict[str, Any], images: Sequence[Image]) -> set[str]:
    """Every rule is evaluated on all images; the first one that selects an image decides about it."""
    free, gone = set(range(len(images))), set()
    for rule in sorted(policy["rules"], key=lambda rule: rule["rulePriority"]):
        selection = rule["selection"]
        found = [number for number, image in enumerate(images) if selected_by_ecr(selection, image)]
        found.sort(key=lambda number: images[number].pushed)
        if selection["countType"] == "imageCountMoreThan":
            expired = set(found[selection["countNumber"] :])
        else:
            expired = {number for number in found if images[number].pushed > selection["countNumber"]}
        if rule["action"]["type"] == "expire":
            gone |= expired & free
        free -= set(found)
    return all_of(images, gone)


@given(policy=ecr_policies(), images=repositories())
def test_ecr_policies_remove_no_more_and_the_same_where_nothing_is_reported(policy, images):
    translated = imported(json.dumps(policy), "ecr")
    ours, theirs = removed(translated, images), simulate_ecr(policy, images)
    assert ours <= theirs
    assert codes(translated, Severity.REMOVES_MORE) == []
    if set(codes(translated, Severity.KEEPS_MORE)) <= {"archive"}:  # what is moved to the archive is not removed either
        assert ours == theirs


def harbor_rule(template: str, number: int, decoration: str, pattern: str) -> dict[str, Any]:
    """One rule in force."""
    selector = {"kind": "doublestar", "decoration": decoration, "pattern": pattern}
    params = {} if template == "always" else {template: number}
    return {
        "disabled": False,
        "action": "retain",
        "template": template,
        "params": params,
        "tag_selectors": [selector],
    }


@pytest.mark.parametrize(
    ("rule", "images", "gone"),
    [
        # The newest two of six.
        (
            harbor_rule("latestPushedK", 2, "matches", "dev-*"),
            [Image(2 * number + 2, {f"dev-{number}": 2 * number + 2}) for number in range(1, 7)],
            {"dev-3", "dev-4", "dev-5", "dev-6"},
        ),
        # The image is as young as its newest tag, also one that the rule is not about, and keeps all its tags.
        (
            harbor_rule("nDaysSinceLastPush", 14, "matches", "dev-*"),
            [Image(50, {"dev-1": 40, "dev-2": 3}), Image(50, {"dev-3": 40}), Image(60, {"dev-4": 45, "main": 5})],
            {"dev-3"},
        ),
        (
            harbor_rule("latestPushedK", 1, "matches", "dev-*"),
            [Image(50, {"dev-1": 40, "main": 2}), Image(30, {"dev-3": 20})],
            {"dev-3"},
        ),
        (harbor_rule("always", 1, "matches", "dev-*"), [Image(9, {"dev-1": 8, "main": 7}), Image(6, {"x": 5})], {"x"}),
        (
            harbor_rule("always", 1, "excludes", "dev-*"),
            [Image(9, {"dev-1": 8, "main": 7}), Image(6, {"dev-2": 5})],
            {"dev-2"},
        ),
    ],
)
def test_harbor_judges_images_by_any_of_their_tags(rule, images, gone):
    assert simulate_harbor([rule], images) == gone
    assert removed(imported(json.dumps({"rules": [rule]}), "harbor"), images) == gone


def test_an_image_with_tags_of_both_kinds_takes_no_place_from_others_that_harbor_counts():
    """It is counted in Harbor, by a tag that the rule is not about; here it is kept beside the newest."""
    rule = harbor_rule("latestPushedK", 1, "excludes", "dev-*")
    images = [Image(50, {"main": 40, "dev-1": 2}), Image(30, {"x": 20}), Image(35, {"y": 25})]
    translated = imported(json.dumps({"rules": [rule]}), "harbor")
    assert simulate_harbor([rule], images) == {"x", "y"}
    assert removed(translated, images) == {"y"}
    assert "excludes-mixed" in codes(translated, Severity.KEEPS_MORE)
    swapped = [Image(50, {"main": 3, "dev-1": 40}), Image(30, {"x": 2}), Image(35, {"y": 25})]
    assert removed(translated, swapped) <= simulate_harbor([rule], swapped) == {"main", "dev-1", "y"}
