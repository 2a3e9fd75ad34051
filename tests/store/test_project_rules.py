"""Rules of GitLab hold tags, also of repositories that no discovery has seen, and the last look knows of new ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import insert, update

from regwarden.core.observed import Hold
from regwarden.core.projects import ProtectionRule, RuleKind
from regwarden.store import schema
from regwarden.store.allow_holds import HoldsMark, read_mark
from regwarden.store.database import Database
from regwarden.store.project_rules import load_rule_holds
from regwarden.store.protections import are_as_known, load_holds, save_protection
from tests.store.test_projects import APP, FINAL, FOUND, NOW, PLACES, RULE, THING, fill, save


def held(database: Database, names: Collection[str] | None = None, registry: str = "git") -> list[tuple[str, str, str]]:
    holds = database.read_now(lambda connection: load_rule_holds(connection, registry, names))
    return [(one.repository, one.tag, one.rule) for one in holds]


def change(database: Database, statement: Any) -> None:
    database.write_now(lambda connection: connection.execute(statement))


def test_one_hold_for_every_tag_that_a_rule_names(database: Database) -> None:
    fill(database)
    assert held(database) == []
    push = ProtectionRule(RuleKind.TAG, "latest", push_role="owner")
    save(database, replace(FOUND, projects=(replace(APP, rules=(RULE, FINAL, push)), THING)))
    both = [("1-final", "-final$"), ("v1", "^v")]
    assert held(database) == [(name, *one) for name in ("team/app", "team/app/web") for one in both]
    assert held(database, ["team/app", "lost/one"]) == [("team/app", *one) for one in both]
    assert held(database, registry="other") == []
    (first, *_) = database.read_now(lambda connection: load_rule_holds(connection, "git"))
    reason = "GitLab lets nobody delete or move tags like -final$: they are immutable"
    assert first == Hold(id=0, registry="git", repository="team/app", tag="1-final", reason=reason, rule="-final$")
    assert (first.label, first.is_by_hand) == ("GitLab rule -final$", False)


def test_a_repository_that_no_discovery_has_seen_belongs_to_the_project_of_its_path(database: Database) -> None:
    fill(database)
    save(database, replace(FOUND, repositories=PLACES[2:3], is_complete=False))
    assert held(database) == [("team/app", "v1", "^v"), ("team/app/web", "v1", "^v")]
    change(database, update(schema.repositories).where(schema.repositories.c.name == "team/app").values(deleted_at=1))
    assert held(database) == [("team/app/web", "v1", "^v")]


def test_rules_stand_among_what_people_hold(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    by_hand = Hold(id=0, registry="git", repository="team/*", tag="v1", reason="audit", by="ann")
    database.write_now(lambda connection: save_protection(connection, by_hand, NOW))
    holds = database.read_now(lambda connection: load_holds(connection, "git", NOW, ["team/app"]))
    assert [(one.repository, one.tag, one.is_by_hand) for one in holds] == [
        ("team/*", "v1", True),
        ("team/app", "v1", False),
    ]


def test_the_last_look_knows_of_new_rules_and_new_tags(database: Database) -> None:
    fill(database)
    save(database, FOUND)

    def look() -> tuple[HoldsMark, tuple[Hold, ...]]:
        return database.read_now(
            lambda connection: (read_mark(connection), load_holds(connection, "git", NOW, ["team/app"]))
        )

    def same(known: tuple[HoldsMark, tuple[Hold, ...]]) -> bool:
        return database.read_now(
            lambda connection: are_as_known(connection, "git", NOW, known[1], mark=known[0], names=["team/app"])
        )

    known = look()
    assert same(known)
    tag = {"state": "ok", "first_seen_at": 0, "tagged_at": 0}
    change(database, insert(schema.tags).values(repository_id=1, name="free", **tag))
    change(database, insert(schema.tags).values(repository_id=2, name="v9", **tag))
    assert same(known)
    change(database, insert(schema.tags).values(repository_id=1, name="v9", **tag))
    assert not same(known)
    known = look()
    save(database, replace(FOUND, projects=(replace(APP, rules=(RULE, replace(RULE, pattern="latest"))), THING)))
    assert not same(known)
    known = look()
    # Less than before holds nothing up that was decided with more.
    save(database, replace(FOUND, projects=(replace(APP, rules=None), THING)))
    assert same(known)
