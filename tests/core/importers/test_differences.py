"""What cannot be translated exactly keeps more and is reported; what cannot be understood is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.importers.api import Severity, Target
from regwarden.core.importers.catalogue import IMPORTERS, translate_rules
from regwarden.core.policy import Default
from regwarden.core.policy_reading import parse_policies
from regwarden.errors import InputError
from tests.imported_rules import FOLDER, Image, codes, imported, read, removed, scope_of

DOCUMENTS = sorted(path.name for path in FOLDER.iterdir())


def harbor(**changes: Any) -> str:
    """A Harbor policy of one rule."""
    selectors = {"kind": "doublestar", "decoration": "repoMatches", "pattern": changes.pop("repositories", "**")}
    rule = {
        "action": "retain",
        "template": "always",
        "params": {},
        "tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": "v*"}],
        "scope_selectors": {"repository": [selectors]},
    }
    return json.dumps({"rules": [rule | changes]})


def ecr(action: str = "expire", **selection: Any) -> str:
    """An ECR policy of one rule about untagged images."""
    chosen = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 3}
    rule = {"rulePriority": 1, "selection": chosen | selection, "action": {"type": action}}
    return json.dumps({"rules": [rule]})


def zot(*policies: dict[str, Any], **retention: Any) -> str:
    """A zot configuration with these policies."""
    return json.dumps({"storage": {"retention": {"policies": list(policies), **retention}}})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_translation_is_the_text_of_correct_policies_with_the_origin_of_each_rule(document):
    translated = imported(read(document), "auto")
    assert parse_policies(translated.text, name="x") == translated.policies
    rules = sum(len(list(policy.rules_by_path())) for policy in translated.policies)
    assert translated.text.count("  # ") >= rules > 0
    assert imported(read(document), "auto").text == translated.text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_broken_document_is_an_input_error_and_nothing_else(document):
    text = read(document)

    @given(st.data())
    def check(data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        junk = data.draw(st.sampled_from(["", "null", "[]", "{}", '"x"', "-1", "1e9", "\x00", "*", "(", "true", '"']))
        for system in ("auto", *IMPORTERS):
            try:
                made = imported(text[:start] + junk + text[end:], system)
            except InputError as error:
                assert error.message.isprintable()
            else:
                assert parse_policies(made.text, name="x") == made.policies

    check()


@pytest.mark.parametrize(
    ("system", "text", "words"),
    [
        ("gitlab", '{"enabled": false, "name_regex": ".*"}', "rules:1:1: this cleanup policy is switched off"),
        ("gitlab", '{"enabled": true, "keep_n": 1}', "name_regex is missing"),
        ("gitlab", '{"name_regex": "(?!v).*"}', "rules:1:16: name_regex: '(?!v).*' is not a regular expression"),
        ("gitlab", '{"name_regex": ".*", "older_then": "7d"}', "'older_then' is not known here"),
        ("gitlab", '{"name_regex": ".*",\n "older_than": "soon"}', "rules:2:16: older_than: 'soon' is not an age"),
        ("gitlab", '{"name_regex": ".*", "keep_n": -1}', "keep_n: a whole number from 0"),
        ("gitlab", '{"name_regex": ["a"]}', "a text is wanted here"),
        ("gitlab", '{"name_regex": "a", "name_regex": "b"}', "name_regex is given twice"),
        ("harbor", harbor(template="nothing"), "'nothing' is no template that can be translated"),
        ("harbor", harbor(disabled=True), "no rule is switched on"),
        ("harbor", harbor(action="remove"), "retain is wanted here"),
        ("harbor", harbor(template="latestPushedK"), "params should have latestPushedK"),
        ("harbor", harbor(tag_selectors=[]), "one selector of tags is wanted here"),
        ("harbor", harbor(tag_selectors=[{"decoration": "matches", "pattern": "a\\*"}]), "a glob with a backslash"),
        ("harbor", harbor(tag_selectors=[{"decoration": "matches", "pattern": "a[b"}]), "is not a glob"),
        ("harbor", harbor(repositories="api"), "relative to the project"),
        ("ecr", ecr(countNumber=0), "countNumber: a whole number from 1"),
        ("ecr", ecr(tagStatus="tagged"), "either tagPrefixList or tagPatternList"),
        ("ecr", ecr(tagStatus="tagged", tagPrefixList=["a*"]), "is no beginning or pattern of tags"),
        ("ecr", ecr("remove"), "expire or transition is wanted here"),
        ("ecr", '{"rules": []}', "a list of 1 to 100 rules"),
        ("ecr", '{"lifecyclePolicyText": "{"}', "lifecyclePolicyText"),
        ("gar", '[{"action": "Delete"}]', "either condition or mostRecentVersions"),
        ("gar", '[{"action": "Delete", "mostRecentVersions": {"keepCount": 3}}]', "goes with Keep only"),
        ("gar", '[{"action": "Delete", "condition": {"olderThan": "soon"}}]', "'soon' is not a duration"),
        ("zot", zot({"repositories": ["**"], "keepUntagged": []}), "'keepUntagged' is not known here"),
        ("zot", zot({"keepTags": []}), "no policy is about any repository"),
        ("zot", '{"storage": {"retention": {}}}', "policies is missing"),
        ("gcr-cleaner", '{"repos": ["gcr.io/a"], "tag_filter_exclude": true}', "tag_filter_exclude cannot be transl"),
        ("gcr-cleaner", '{"repos": ["gcr.io/a"], "tag_filter_any": "a", "tag_filter_all": "b"}', "exclude each other"),
        ("gcr-cleaner", '{"repos": ["gcr.io/a"], "grace": "7d"}', "'7d' is not a duration"),
        ("acr", "acr purge --ago 1d", "acr purge has no --filter"),
        ("acr", "acr purge --filter 'a:b'", "acr purge has no --ago"),
        ("acr", "acr purge --filter 'a:b' --ago 1d --hard", "'--hard' is not a known flag of acr purge"),
        ("acr", "acr purge --filter 'a:(?=b)' --ago 1d", "is not a regular expression"),
        ("acr", "acr purge --filter 'a:b", "the command line cannot be understood"),
        ("quay", '{"method": "size", "value": 3}', "number_of_tags or creation_date is wanted here"),
        ("quay", '{"policies": []}', "there is no policy here"),
        ("nexus", "{}", "there is no importer for 'nexus'"),
        ("auto", "{}", "this looks of no system that is known"),
        ("auto", "a: [", "this is neither JSON nor YAML"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_its_place(system, text, words):
    with pytest.raises(InputError) as caught:
        imported(text, system)
    assert words in caught.value.message


def test_a_document_that_names_no_repositories_is_about_nothing_until_somebody_does():
    translated = translate_rules(ecr(), system="ecr", name="x")
    assert "scope-missing" in codes(translated)
    assert removed(translated, [Image(10, {})]) == set()
    assert removed(imported(ecr(), "ecr"), [Image(10, {})]) != set()


def test_documents_that_name_their_repositories_are_about_these():
    gitlab = translate_rules(read("gitlab.json"), system="gitlab", name="x").policies[0]
    assert scope_of(gitlab) == (["team/app", "glob:team/app/**"], [])
    answer = json.dumps({"registryId": "1", "repositoryName": "web/api", "lifecyclePolicyText": ecr()})
    assert "[web/api]" in translate_rules(answer, system="auto", name="x").text.replace('"', "")
    cleaner = translate_rules('{"repos": "gcr.io/p/a", "recursive": true, "keep": 1}', system="auto", name="x")
    assert scope_of(cleaner.policies[0]) == (["p/a", "glob:p/a/**"], [])
    acr = translate_rules("acr purge --filter 'web/.*:x' --ago 1d", system="auto", name="x")
    assert "re:web/.*" in acr.text


def test_every_selection_of_harbor_repositories_is_a_policy_of_its_own():
    rules = [json.loads(harbor(repositories=name))["rules"][0] for name in ("api", "web/**", "api")]
    rules[1]["scope_selectors"]["repository"][0]["decoration"] = "repoExcludes"
    made = imported(json.dumps({"rules": rules}), "harbor", project="team").policies
    assert [scope_of(policy) for policy in made] == [
        (["team/api"], []),
        (["glob:team/**"], ["glob:team/web/**"]),
    ]
    assert [len(policy.keep) for policy in made] == [4, 2]
    assert all(policy.default is Default.DELETE for policy in made)


@pytest.mark.parametrize(
    ("system", "text", "code"),
    [
        ("gitlab", '{"name_regex": "main|release.*"}', ("trap", "ungrouped-alternatives")),
        ("gitlab", '{"name_regex": ".*", "older_than": "1month"}', ("keeps-more", "calendar-unit")),
        ("gitlab", '{"name_regex": ".*", "keep_n": 5}', ("removes-more", "count-per-page")),
        ("harbor", harbor(template="latestPulledN", params={"latestPulledN": 3}), ("keeps-more", "ranked-by-pulls")),
        (
            "harbor",
            harbor(template="nDaysSinceLastPull", params={"nDaysSinceLastPull": 3}),
            ("keeps-more", "never-pulled"),
        ),
        ("harbor", harbor(template="latestPushedK", params={"latestPushedK": 3}), ("keeps-more", "counted-apart")),
        ("ecr", ecr("transition"), ("keeps-more", "archive")),
        ("ecr", ecr(tagStatus="tagged", tagPrefixList=["a", "b"]), ("trap", "and-list")),
        ("ecr", ecr(tagStatus="any", countType="imageCountMoreThan"), ("keeps-more", "counted-apart")),
        (
            "gar",
            '[{"action": {"type": "Delete"}, "condition": {"versionNamePrefixes": ["a"]}}]',
            ("keeps-more", "digest-prefix"),
        ),
        ("zot", zot({"repositories": ["**"], "keepTags": [{"patterns": ["v"]}]}), ("trap", "unanchored")),
        ("zot", zot({"repositories": ["**"], "keepTags": [{}, {"patterns": ["v"]}]}), ("trap", "shadowed-entry")),
        ("zot", zot({"repositories": ["a"]}, {"keepTags": []}), ("keeps-more", "no-repositories")),
        ("acr", "acr purge --filter a:b --ago 1d --include-locked", ("keeps-more", "unlock")),
        ("acr", "acr purge --filter a:b --ago 1d --untagged", ("keeps-more", "untagged-age")),
        ("acr", "acr purge --filter a:b --ago 1d --keep 2", ("trap", "counts-candidates")),
        ("quay", '{"method": "creation_date", "value": "1m"}', ("keeps-more", "calendar-unit")),
    ],
)
def test_a_gap_is_reported(system, text, code):
    differences = imported(text, system).differences if system != "gar" else gar_with_keep(text).differences
    assert code in [(one.severity.value, one.code) for one in differences]


def gar_with_keep(text: str) -> Any:
    """GAR's policies with one more, so that something is left to write."""
    return imported(json.dumps([*json.loads(text), {"action": "Keep", "mostRecentVersions": {}}]), "gar")


def test_ecr_images_in_the_archive_rule_are_claimed_and_stay():
    rules = [json.loads(ecr("transition", tagStatus="tagged", tagPrefixList=["dev-"]))["rules"][0]]
    rules.append(json.loads(ecr(tagStatus="any", countNumber=1))["rules"][0] | {"rulePriority": 2})
    images = [Image(9, {"dev-1": 9}), Image(9.5, {"x": 9})]
    assert removed(imported(json.dumps({"rules": rules}), "ecr"), images) == {"x"}


def test_the_policies_of_zot_do_not_overlap_and_untagged_manifests_wait_for_the_delay():
    first = {"repositories": ["team/**"], "keepTags": [{"patterns": ["^v"]}], "deleteUntagged": False}
    second = {"repositories": ["**"], "deleteReferrers": True}
    one, two = imported(zot(first, second, delay="48h"), "zot", project="").policies
    assert scope_of(two) == (["glob:**"], ["glob:team/**", "team"])
    assert (one.default, two.default) == (Default.DELETE, Default.KEEP)
    images = [Image(9, {"v1": 9}), Image(9.1, {"x": 9}), Image(3, {}), Image(1.5, {})]
    made = imported(zot(second, delay="48h"), "zot")
    assert removed(made, images) == {f"sha256:{2:064x}"}
    assert removed(imported(zot(first, delay="48h"), "zot"), images) == {"x"}


def test_gar_keeps_by_package_and_takes_untagged_versions_only_where_it_says_so():
    policies = [{"action": "DELETE", "condition": {"tagState": "UNTAGGED", "olderThan": "172800s"}}]
    images = [Image(3, {}), Image(1.5, {}), Image(30, {"x": 30})]
    made = imported(json.dumps({"cleanupPolicies": {"a": policies[0]}, "cleanupPolicyDryRun": True}), "auto")
    assert removed(made, images) == {f"sha256:{0:064x}"}
    assert "dry-run" in codes(made, Severity.NOTE)


def test_a_label_lets_images_of_quay_expire():
    made = imported('{"method": "number_of_tags", "value": "10"}', "quay")
    assert "quay.expires-after" in made.text
    assert codes(made, Severity.KEEPS_MORE) == []


def test_a_project_or_pattern_that_is_none_is_refused():
    for target in (Target(project="Team App"), Target(repositories=("~x",))):
        with pytest.raises(InputError):
            translate_rules(ecr(), system="ecr", name="x", target=target)


def test_a_text_that_looks_like_two_systems_is_asked_about():
    both = json.dumps({"rules": [{"rulePriority": 1, "template": "always"}]})
    with pytest.raises(InputError, match="as much of harbor as of ecr"):
        imported(both, "auto")


def test_a_tag_goes_to_the_first_entry_of_zot_that_takes_it_and_uses_no_place_of_a_later_one():
    entries = [{"patterns": ["^dev-1$"], "pushedWithin": "24h"}, {"patterns": ["^dev-"], "mostRecentlyPushedCount": 1}]
    images = [Image(2, {"dev-1": 2}), Image(3, {"dev-2": 3}), Image(4, {"dev-3": 4})]
    made = imported(zot({"repositories": ["**"], "keepTags": entries}), "zot")
    assert removed(made, images) == {"dev-1", "dev-3"}
