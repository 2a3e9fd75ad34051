"""The registry of the double in its three modes against what GitLab's does otherwise than Distribution 2.8."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from regwarden.testing.images import artifact, image, index, layer, real_layer
from tests.fixtures.gitlab_servers import GitLabMode
from tests.gitlab_double.asking import Answer, ask, fetch_token
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.live_registry import multi_platform, picture

PULL = "repository:team/app:pull"
NATIVE = "/gitlab/v1/repositories/team/app"
SIGNATURE = "application/vnd.dev.example.signature"


@pytest.fixture(scope="module", params=GitLabMode)
def gitlab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode=request.param) as gitlab:
        yield gitlab


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    """With the metadata database, and ``team/app`` with 250 tags of two images, one of which is signed."""
    with running_gitlab(tmp_path_factory.mktemp("gitlab")) as gitlab:
        first = picture("first")
        gitlab.push("team/app", first, "t000")
        second = gitlab.push("team/app", picture("second"), "t001")
        gitlab.push("team/app", artifact(SIGNATURE, [real_layer(b"signature")], subject=first))
        gitlab.fill_tags("team/app", str(first.digest), [f"t{number:03}" for number in range(2, 249)])
        gitlab.push("team/app", multi_platform("app"), "latest.json")
        start = 1_700_000_000
        for number in range(249):  # published in the opposite order of the names
            gitlab.storage.set_times("team/app", f"t{number:03}", created_at=start - number)
        gitlab.storage.set_times("team/app", "latest.json", created_at=start, updated_at=start + 60.25)
        gitlab.push("team/app/empty", picture("gone"), "x")
        gitlab.storage.delete_tag("team/app/empty", "x")
        assert second != str(first.digest)
        yield gitlab


def listed(gitlab: GitLab, query: str = "") -> Answer:
    return ask(gitlab, f"{NATIVE}/tags/list/{query}", fetch_token(gitlab, PULL, name="reporter"))


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    return [tag["name"] for tag in answer.document]


def links(answer: Answer) -> dict[str, str]:
    """Relative addresses by what they lead to."""
    entries = [entry.strip() for entry in answer.headers.get("Link", "").split(", ") if entry]
    return {entry.partition('rel="')[2][:-1]: entry[1 : entry.index(">")] for entry in entries}


def test_the_headers_of_gitlab_stand_on_the_answer_to_an_authorised_probe_alone(gitlab: GitLab):
    probe, refused = ask(gitlab, "/v2/", fetch_token(gitlab)), ask(gitlab, "/v2/")
    found = {name: probe.headers.get(f"Gitlab-Container-Registry-{name}") for name in ("Version", "Database-Enabled")}
    expected = {"database": "true", "files": "false", "plain": None}[gitlab.mode]
    assert (probe.status, refused.status) == (200, 401)
    assert found == {"Version": expected and "4.32.0-gitlab", "Database-Enabled": expected}
    assert not [name for name in refused.headers if name.lower().startswith("gitlab")]
    assert f'realm="{gitlab.url}/jwt/auth",service="container_registry"' in refused.headers["WWW-Authenticate"]


def test_a_tag_is_deleted_alone_where_the_registry_is_that_of_gitlab(gitlab: GitLab):
    for tag in ("b", "a", "c"):
        digest = gitlab.push("team/app", picture("siblings"), tag)
    token = fetch_token(gitlab, "repository:team/app:pull,delete")
    answer = ask(gitlab, "/v2/team/app/manifests/b", token, method="DELETE")
    tags = ask(gitlab, "/v2/team/app/tags/list", token).document["tags"]
    if gitlab.mode == "plain":
        assert (answer.status, answer.code, sorted(tags)) == (400, "DIGEST_INVALID", ["a", "b", "c"])
    else:
        again = ask(gitlab, "/v2/team/app/manifests/b", token, method="DELETE")
        assert (answer.status, tags, again.status, again.code) == (202, ["a", "c"], 404, "MANIFEST_UNKNOWN")
    by_digest = ask(gitlab, f"/v2/team/app/manifests/{digest}", token, method="DELETE")
    assert by_digest.status == 202
    assert not gitlab.storage.tag_names("team/app")


def test_the_api_of_gitlab_is_there_with_the_database_alone(gitlab: GitLab):
    anonymous, known = ask(gitlab, "/gitlab/v1/"), ask(gitlab, "/gitlab/v1/", fetch_token(gitlab))
    expected = (401, 200) if gitlab.mode == "database" else (404, 404)
    assert (anonymous.status, known.status) == expected


def test_who_may_not_delete_gets_the_refusal_of_the_real_registry(gitlab: GitLab):
    gitlab.push("team/app", picture("kept"), "kept")
    token = fetch_token(gitlab, "repository:team/app:pull,delete", name="developer")
    answer = ask(gitlab, "/v2/team/app/manifests/kept", token, method="DELETE")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("name", "tag", "code"),
    [
        ("maintainer", "v1", "PROTECTED_TAG"),
        ("maintainer", "dev", ""),
        ("admin", "v2", ""),
    ],
)
def test_protected_tags_are_refused_by_the_rules_in_the_token(gitlab: GitLab, name: str, tag: str, code: str):
    gitlab.push("team/web-ui", picture(f"web {tag}"), tag)
    token = fetch_token(gitlab, "repository:team/web-ui:pull,delete", name=name)
    answer = ask(gitlab, f"/v2/team/web-ui/manifests/{tag}", token, method="DELETE")
    if gitlab.mode == "plain":
        assert answer.code == "DIGEST_INVALID"
    elif code:
        assert (answer.status, answer.code, "WWW-Authenticate" in answer.headers) == (401, code, False)
    else:
        assert answer.status == 202


def test_immutable_tags_and_manifests_beside_them_stay_even_for_administrators(gitlab: GitLab):
    digest = gitlab.push("team/sub/tool", picture("tool"), "1-final")
    gitlab.push("team/sub/tool", picture("tool"), "other")
    token = fetch_token(gitlab, "repository:team/sub/tool:pull,push,delete")
    asked = [("DELETE", "1-final"), ("DELETE", digest), ("PUT", "1-final")]
    answers = [
        ask(gitlab, f"/v2/team/sub/tool/manifests/{reference}", token, method=method, body=b"{}")
        for method, reference in asked
    ]
    if gitlab.mode != "plain":
        assert [(answer.status, answer.code) for answer in answers] == [
            (401, "IMMUTABLE_TAG"),
            (401, "PROTECTED_MANIFEST"),
            (401, "IMMUTABLE_TAG"),
        ]
        assert ask(gitlab, "/v2/team/sub/tool/manifests/other", token, method="DELETE").status == 202


def test_children_of_an_index_can_be_deleted_without_the_database_alone(gitlab: GitLab):
    built = index([image([real_layer(b"child")])])
    gitlab.push("team/app/multi", built, "1")
    token = fetch_token(gitlab, "repository:team/app/multi:pull,delete")
    answer = ask(gitlab, f"/v2/team/app/multi/manifests/{built.children[0].digest}", token, method="DELETE")
    if gitlab.mode == "database":
        assert (answer.status, answer.code) == (409, "MANIFEST_REFERENCED")
    else:
        assert answer.status == 202


def test_a_repository_that_is_being_moved_takes_no_changes(database: GitLab):
    assert database.facade is not None
    database.facade.renaming.add("team/app/empty")
    token = fetch_token(database, "repository:team/app/empty:pull,push,delete")
    answers = [
        ask(database, "/v2/team/app/empty/manifests/1", token, method=method, body=b"{}")
        for method in ("PUT", "DELETE")
    ]
    database.facade.renaming.clear()
    assert [(answer.status, answer.code) for answer in answers] == [(409, "RENAME_IN_PROGRESS")] * 2


def test_the_catalog_has_no_repository_without_manifests_and_pages_in_path_order(database: GitLab):
    database.push("ann/thing", picture("thing"), "1")
    emptied = database.push("team/app/worker", picture("emptied"), "1")
    token = fetch_token(database, "registry:catalog:*", "repository:team/app/worker:delete")
    ask(database, f"/v2/team/app/worker/manifests/{emptied}", token, method="DELETE")
    page = ask(database, "/v2/_catalog?n=2", token)
    assert page.document == {"repositories": ["ann/thing", "team/app"]}
    assert page.headers["Link"] == '</v2/_catalog?last=team%2Fapp&n=2>; rel="next"'
    assert ask(database, links(page)["next"], token).document == {"repositories": ["team/app/empty"]}
    assert ask(database, "/v2/_catalog?n=1001", token).code == "PAGINATION_NUMBER_INVALID"
    assert ask(database, "/v2/_catalog", fetch_token(database, PULL)).status == 401


def test_tags_come_a_hundred_at_a_time_unless_more_are_asked_for(database: GitLab):
    token = fetch_token(database, PULL)
    first = ask(database, "/v2/team/app/tags/list", token)
    found = first.document["tags"]
    assert (len(found), found[0], found[1]) == (100, "latest.json", "t000")
    assert links(first) == {"next": "/v2/team/app/tags/list?last=t098&n=100"}
    assert ask(database, links(first)["next"], token).document["tags"][0] == "t099"
    whole = ask(database, "/v2/team/app/tags/list?n=5000", token)
    assert (len(whole.document["tags"]), "Link" in whole.headers) == (250, False)
    missing = ask(database, "/v2/team/app/none/tags/list", fetch_token(database, "repository:team/app/none:pull"))
    assert (missing.status, missing.code) == (404, "NAME_UNKNOWN")


def test_a_tag_is_described_with_digest_size_dates_and_referrers(database: GitLab):
    first = picture("first")
    signature = artifact(SIGNATURE, [real_layer(b"signature")], subject=first)
    size = len(first.payload) + sum(blob.size_bytes for blob in first.blobs)
    (found,) = listed(database, "?name_exact=t000&referrers=true").document
    assert found == {
        "name": "t000",
        "digest": str(first.digest),
        "config_digest": str(first.blobs[0].digest),
        "media_type": first.media_type,
        "size_bytes": size,
        "created_at": "2023-11-14T22:13:20.000Z",
        "published_at": "2023-11-14T22:13:20.000Z",
        "referrers": [{"artifactType": SIGNATURE, "digest": str(signature.digest)}],
    }
    (latest,) = listed(database, "?name_exact=latest.json").document
    assert latest["size_bytes"] == 0
    assert latest["updated_at"] == latest["published_at"] == "2023-11-14T22:14:20.250Z"
    other = listed(database, "?name_exact=t000&referrers=true&referrer_type=other").document
    assert "referrers" not in other[0]
    assert listed(database, "?name_exact=none").document == []


def walk(gitlab: GitLab, query: str, relation: str) -> Iterator[Answer]:
    answer = listed(gitlab, query)
    yield answer
    while relation in links(answer):
        answer = listed(gitlab, f"?{urlsplit(links(answer)[relation]).query}")
        yield answer


@pytest.mark.parametrize("sort", ["name", "-name", "published_at", "-published_at"])
def test_every_order_is_walked_forwards_and_backwards_by_its_markers(database: GitLab, sort: str):
    pages = list(walk(database, f"?n=90&sort={sort}&referrers=true", "next"))
    found = [name for page in pages for name in names(page)]
    by_name = [f"t{number:03}" for number in range(249)]
    ascending = ["latest.json", *by_name] if sort.endswith("name") else [*reversed(by_name), "latest.json"]
    expected = ascending[::-1] if sort.startswith("-") else ascending
    assert ([len(names(page)) for page in pages], found) == ([90, 90, 70], expected)
    assert [sorted(links(page)) for page in pages] == [["next"], ["next", "previous"], ["previous"]]
    parameters = parse_qs(urlsplit(links(pages[0])["next"]).query)
    assert parameters.keys() == {"last", "n", "sort"}
    back = [names(page) for page in walk(database, f"?{urlsplit(links(pages[2])['previous']).query}", "previous")]
    assert back == [expected[90:180], expected[:90]]


def test_a_part_of_the_name_filters_and_stays_in_the_links(database: GitLab):
    pages = list(walk(database, "?n=7&name=t01", "next"))
    assert [name for page in pages for name in names(page)] == [f"t01{number}" for number in range(10)]
    assert parse_qs(urlsplit(links(pages[0])["next"]).query)["name"] == ["t01"]
    assert names(listed(database)) == ["latest.json", *(f"t{number:03}" for number in range(99))]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?n=many", "INVALID_QUERY_PARAMETER_TYPE"),
        ("?n=0", "INVALID_QUERY_PARAMETER_VALUE"),
        ("?n=1001", "INVALID_QUERY_PARAMETER_VALUE"),
        ("?last=a&before=b", "INVALID_QUERY_PARAMETER_VALUE"),
        ("?name=a&name_exact=b", "INVALID_QUERY_PARAMETER_VALUE"),
        ("?sort=size", "INVALID_QUERY_PARAMETER_VALUE"),
        ("?last=%2Fno", "INVALID_QUERY_PARAMETER_VALUE"),
        (f"?name={'a' * 129}", "INVALID_QUERY_PARAMETER_VALUE"),
    ],
)
def test_wrong_parameters_are_named(database: GitLab, query: str, code: str):
    answer = listed(database, query)
    assert (answer.status, answer.code) == (400, code)


def test_the_size_counts_each_layer_of_tagged_manifests_once(database: GitLab):
    shared, own = layer("shared", 5_000_000_000), layer("own", 700)
    database.push("team/app/work", image([shared, own]), "1")
    database.push("team/app/work", index([image([shared]), image([layer("arm", 30)])]), "2")
    database.push("team/app/work", image([layer("untagged", 11)]))
    answer = ask(
        database,
        "/gitlab/v1/repositories/team/app/work/?size=self",
        fetch_token(database, "repository:team/app/work:pull", name="read_registry"),
    )
    found = answer.document
    assert (found["name"], found["path"], found["size_bytes"]) == ("work", "team/app/work", 5_000_000_730)
    assert (found["size_precision"], "created_at" in found) == ("default", True)


def test_details_of_a_tag_show_the_platforms_of_an_index(database: GitLab):
    found: dict[str, Any] = ask(database, f"{NATIVE}/tags/detail/latest.json/", fetch_token(database, PULL)).document
    children = found["image"]["manifest"]["references"]
    assert [child["config"]["platform"]["architecture"] for child in children] == ["amd64", "arm64"]
    missing = ask(database, f"{NATIVE}/tags/detail/none/", fetch_token(database, PULL))
    assert (missing.status, missing.code) == (404, "TAG_UNKNOWN")


def test_the_native_api_wants_its_slash_and_a_token_for_the_repository(database: GitLab):
    moved = ask(database, f"{NATIVE}/tags/list?n=5")
    assert (moved.status, moved.headers["Location"]) == (301, f"{NATIVE}/tags/list/?n=5")
    other = ask(database, f"{NATIVE}/tags/list/", fetch_token(database, "repository:ann/thing:pull"))
    assert (other.status, other.code) == (401, "UNAUTHORIZED")
    assert 'scope="repository:team/app:pull"' in other.headers["WWW-Authenticate"]
    below = ask(database, f"{NATIVE}/?size=self_with_descendants", fetch_token(database, PULL))
    unknown = ask(
        database, "/gitlab/v1/repositories/team/app/none/", fetch_token(database, "repository:team/app/none:pull")
    )
    assert (below.status, unknown.status, unknown.code) == (401, 404, "NAME_UNKNOWN")
    assert ask(database, f"{NATIVE}/?size=all", fetch_token(database, PULL)).code == "INVALID_QUERY_PARAMETER_VALUE"


def test_a_page_of_a_repository_with_thousands_of_tags_takes_milliseconds(tmp_path: Path):
    with running_gitlab(tmp_path) as gitlab:
        digest = gitlab.push("team/app", picture("many"), "first")
        gitlab.fill_tags("team/app", digest, [f"v{number}" for number in range(6_999)])
        token = fetch_token(gitlab, PULL)
        answer, elapsed = ask(gitlab, f"{NATIVE}/tags/list/?n=1000&referrers=true", token), []
        for _ in range(5):
            start = time.process_time()
            answer = ask(gitlab, links(answer)["next"], token)
            elapsed.append(time.process_time() - start)
        assert names(answer) == sorted(gitlab.storage.tag_names("team/app"))[5000:6000]
        assert min(elapsed) < 0.05
