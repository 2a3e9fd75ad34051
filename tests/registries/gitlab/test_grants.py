"""Is a token read as GitLab means it, and nothing else read into it, whatever stands there?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.registries.gitlab.grants import EVERYTHING, Grant, Grants, TokenMeta, read_grants
from tests.registries.gitlab.small_gitlab import build_claims, build_jwt

ENTRY = {"type": "repository", "name": "team/app", "actions": ["pull"]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def _entries(access: object) -> Any:
    return read_grants(build_jwt(build_claims(access))).entries


def test_a_token_tells_what_is_granted_for_how_long_and_of_which_project() -> None:
    meta = {
        "project_id": 7,
        "project_path": "Team/App",
        "tag_deny_access_patterns": {"push": ["^v"], "delete": ["^v", "rel"]},
        "tag_immutable_patterns": ["^1"],
    }
    found = read_grants(build_jwt(build_claims([ENTRY | {"meta": meta}], lifetime_seconds=900)))
    expected = TokenMeta(7, "Team/App", ("^v", "rel"), ("^v",), ("^1",))
    assert found.lifetime_seconds == 900
    assert found.entries == {("repository", "team/app"): Grant(frozenset({"pull"}), expected)}


def test_entries_of_one_thing_add_up() -> None:
    found = _entries([ENTRY | {"meta": {"project_id": 1}}, ENTRY | {"actions": ["delete"]}])
    assert found == {("repository", "team/app"): Grant(frozenset({"pull", "delete"}), TokenMeta(1))}


@pytest.mark.parametrize("claims", [{}, {"exp": 5}, {"exp": True, "iat": False}, {"exp": 5, "iat": 9}, {"exp": "9"}])
def test_a_lifetime_that_is_none_is_unknown(claims: object) -> None:
    assert read_grants(build_jwt(claims)).lifetime_seconds is None


@pytest.mark.parametrize(
    "access",
    [
        None,
        {},
        "all",
        ["all"],
        [ENTRY, 5],
        [ENTRY | {"actions": "pull"}],
        [ENTRY | {"actions": ["pull", 1]}],
        [ENTRY | {"name": None}],
        [ENTRY | {"name": "x" * 5000}],
        [ENTRY] * 2000,
    ],
)
def test_access_that_cannot_be_understood_is_unknown_as_a_whole(access: object) -> None:
    assert _entries(access) is None


@pytest.mark.parametrize("patterns", ["^v", [1], ["x" * 5000], ["^v"] * 1000, {"a": 1}])
def test_rules_that_cannot_be_read_hold_everything(patterns: object) -> None:
    meta = {"tag_deny_access_patterns": {"delete": patterns, "push": patterns}, "tag_immutable_patterns": patterns}
    found = _entries([ENTRY | {"meta": meta}])[("repository", "team/app")].meta
    assert found == TokenMeta(None, "", (EVERYTHING,), (EVERYTHING,), (EVERYTHING,))
    whole = _entries([ENTRY | {"meta": {"tag_deny_access_patterns": patterns, "project_id": "7"}}])
    if not isinstance(patterns, dict):
        assert whole[("repository", "team/app")].meta.delete_deny_patterns == (EVERYTHING,)


def test_a_star_grants_every_action() -> None:
    assert Grant(frozenset("*")).allows(frozenset({"pull", "delete"}))
    assert not Grant(frozenset({"pull"})).allows(frozenset({"pull", "delete"}))


@pytest.mark.parametrize("token", ["", "opaque", "a.b", "a.b.c.d", "a.%%.c", "a.W10.c", "a." + "A" * 600_000 + ".c"])
def test_what_is_no_jwt_tells_nothing(token: str) -> None:
    assert read_grants(token) == Grants()


@settings(max_examples=60, deadline=None)
@given(claims=JSON | st.fixed_dictionaries({"access": st.lists(JSON, max_size=3), "exp": JSON, "iat": JSON}))
def test_nothing_makes_it_fail(claims: object) -> None:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    found = read_grants(f"h.{payload.rstrip('=')}.s")
    assert found.lifetime_seconds is None or 0 < found.lifetime_seconds <= 86400


@settings(max_examples=40, deadline=None)
@given(
    meta=st.dictionaries(st.sampled_from(["project_id", "tag_deny_access_patterns", "tag_immutable_patterns"]), JSON)
)
def test_a_meta_of_any_shape_gives_patterns_that_are_texts(meta: object) -> None:
    found = _entries([ENTRY | {"meta": meta}])
    (grant,) = found.values()
    assert grant.meta is not None
    for patterns in (grant.meta.delete_deny_patterns, grant.meta.push_deny_patterns, grant.meta.immutable_patterns):
        assert all(isinstance(pattern, str) for pattern in patterns)
