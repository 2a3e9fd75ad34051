"""Roles come from rules that match, and from nothing else."""

from __future__ import annotations

import pytest

from regwarden.core.access import Grant, Role
from regwarden.core.role_rules import SignedIn, grants_for, parse_rule
from regwarden.errors import InputError
from regwarden.settings_access import RoleRule

ANN = SignedIn(
    provider="ldap",
    subject="ldap:1",
    name="ann",
    groups=frozenset({"registry-users", "team-a"}),
    claims={"gidNumber": ("100", "200"), "ref_protected": ("true",)},
)


def roles(*rules: RoleRule, who: SignedIn = ANN) -> list[str]:
    return [grant.role.value for grant in grants_for([parse_rule(rule) for rule in rules], who)]


def test_nobody_has_a_role_without_a_rule() -> None:
    assert roles() == []


@pytest.mark.parametrize(
    ("rule", "is_matched"),
    [
        (RoleRule(role="viewer", groups=("registry-users",)), True),
        (RoleRule(role="viewer", groups=("others", "glob:team-*")), True),
        (RoleRule(role="viewer", groups=("others",)), False),
        (RoleRule(role="viewer", groups=("Registry-Users",)), False),
        (RoleRule(role="viewer", users=("bob", "ann")), True),
        (RoleRule(role="viewer", users=("an",)), False),
        (RoleRule(role="viewer", users=("ann",), groups=("others",)), False),
        (RoleRule(role="viewer", claims=("gidNumber=200",)), True),
        (RoleRule(role="viewer", claims=("gidNumber=200", "ref_protected=true")), True),
        (RoleRule(role="viewer", claims=("gidNumber=200", "ref_protected=false")), False),
        (RoleRule(role="viewer", claims=("missing=glob:**",)), False),
        (RoleRule(role="viewer", everyone=True), True),
        (RoleRule(role="viewer", everyone=True, provider="ldap"), True),
        (RoleRule(role="viewer", everyone=True, provider="sso"), False),
        (RoleRule(role="viewer", users=("ann",), provider="sso"), False),
    ],
)
def test_all_conditions_that_are_set_must_hold(rule: RoleRule, is_matched: bool) -> None:
    assert roles(rule) == (["viewer"] if is_matched else [])


def test_everything_that_matches_is_given_once() -> None:
    rules = (
        RoleRule(role="viewer", everyone=True),
        RoleRule(role="viewer", groups=("team-a",)),
        RoleRule(role="cleaner", groups=("team-a",), repositories=("glob:team-a/**",)),
        RoleRule(role="admin", users=("bob",)),
    )
    assert roles(*rules) == ["viewer", "cleaner"]
    given = grants_for([parse_rule(rule) for rule in rules], ANN)
    assert given[0] == Grant(Role.VIEWER)
    assert given[1].area.has("prod", "team-a/app")
    assert not given[1].area.has("prod", "team-b/app")


@pytest.mark.parametrize(
    "rule",
    [
        RoleRule(role="viewer"),
        RoleRule(role="viewer", provider="ldap"),
        RoleRule(role="viewer", everyone=True, users=("ann",)),
        RoleRule(role="root", everyone=True),
        RoleRule(role="viewer", groups=("team-*",)),
        RoleRule(role="viewer", users=("",)),
        RoleRule(role="viewer", claims=("gidNumber",)),
        RoleRule(role="viewer", claims=("=100",)),
        RoleRule(role="viewer", everyone=True, repositories=("re:(",)),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: RoleRule) -> None:
    with pytest.raises(InputError, match="a rule for the role") as raised:
        parse_rule(rule)
    assert raised.value.code == "bad-role-rule"
