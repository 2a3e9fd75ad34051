"""Grants are written and read back; what is not a grant is refused and never becomes more than was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.access import Area, Grant, Role
from regwarden.core.grants import build_grants, grants_to_json, parse_grants
from regwarden.core.patterns import parse_pattern
from regwarden.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["viewer", "glob:a/**"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "registries", "repositories", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_grants_come_back_as_they_were_written() -> None:
    grants = (
        Grant(Role.ADMIN),
        Grant(Role.VIEWER, Area((parse_pattern("prod"),), (parse_pattern("glob:team/**"), parse_pattern("a/b")))),
    )
    written = grants_to_json(grants)
    assert written == [
        {"role": "admin"},
        {"role": "viewer", "registries": ["prod"], "repositories": ["glob:team/**", "a/b"]},
    ]
    assert parse_grants(written) == grants


def test_roles_share_the_area_that_they_are_made_with() -> None:
    made = build_grants(("viewer", "cleaner"), ("prod",), ("glob:team/**",))
    assert [grant.role for grant in made] == [Role.VIEWER, Role.CLEANER]
    assert made[0].area == made[1].area == Area((parse_pattern("prod"),), (parse_pattern("glob:team/**"),))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("viewer", "not a list"),
        (None, "not a list"),
        ([["viewer"]], "not an object"),
        ([{}], "not a role"),
        ([{"role": "root"}], "not a role"),
        ([{"role": "viewer", "repositories": None}], "not a list of patterns"),
        ([{"role": "viewer", "repositories": "team/app"}], "not a list of patterns"),
        ([{"role": "viewer", "registries": [1]}], "not a list of patterns"),
        ([{"role": "viewer", "registries": ["team/*"]}], "registries of a grant"),
        ([{"role": "viewer", "registries": [""]}], "registries of a grant"),
        ([{"role": "viewer", "repository": ["team"]}], "has no field 'repository'"),
        ([{"role": "viewer"}] * 51, "51 grants"),
        ([{"role": "viewer", "registries": ["a"] * 101}], "101 patterns"),
    ],
)
def test_what_is_not_a_grant_is_refused(written: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse_grants(written)
    assert raised.value.code == "bad-grant"


@given(JSON)
def test_any_document_is_read_or_refused(written: object) -> None:
    try:
        grants = parse_grants(written)
    except InputError:
        return
    assert parse_grants(grants_to_json(grants)) == grants
