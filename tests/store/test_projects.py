"""What a discovery found is kept; what it could not find out is not taken away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import event, insert, select, update
from sqlalchemy.engine import Connection

from regwarden.core.projects import (
    Access,
    Discovery,
    Features,
    Mode,
    Namespace,
    Project,
    ProjectRepository,
    ProtectionRule,
    RepositorySize,
    RuleKind,
)
from regwarden.store import schema
from regwarden.store.bulk import bulk_insert
from regwarden.store.changes import PROJECT_RULES, read_changes
from regwarden.store.database import Database
from regwarden.store.project_rules import find_protected_repositories, find_wrong_marks, load_rule_holds, mark_tags
from regwarden.store.projects import (
    StoredProject,
    find_unsized,
    list_projects,
    load_access,
    load_namespaces,
    save_access,
    save_discovery,
    save_remote_size,
)
from regwarden.store.times import to_micros

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = ProtectionRule(RuleKind.TAG, "^v", "owner")
FINAL = ProtectionRule(RuleKind.IMMUTABLE, "-final$")
APP = Project(
    id=101,
    path="team/App",
    group="team",
    owner="mia",
    visibility="private",
    access_level=40,
    cleanup_policy={"enabled": True, "keep_n": 5, "name_regex": "\x00é"},
    size_bytes=1000,
    rules=(RULE,),
)
THING = Project(id=104, path="ann/thing", group="ann", owner="ann", access_level=30)
PLACES = (
    ProjectRepository(name="team/app", project_id=101, id=1, created_at=NOW - DAY),
    ProjectRepository(name="team/app/web", project_id=101, id=2, status="delete_scheduled"),
    ProjectRepository(name="ann/thing", project_id=104, id=6),
    ProjectRepository(name="not/crawled", project_id=104, id=9),
)
FOUND = Discovery(
    mode=Mode.INSTANCE, projects=(APP, THING), repositories=PLACES, namespaces=(Namespace(path="team", size_bytes=5),)
)
NAMES = ("team/app", "team/app/web", "ann/thing", "lost/one")
TAGS = ("latest", "v1", "1-final")


def fill(database: Database) -> None:
    """Registry ``git`` with four repositories of three tags each, and another registry with one of the names."""

    def work(connection: Any) -> None:
        at = to_micros(NOW)
        for number, name in enumerate(("git", "other"), start=1):
            row = {"id": number, "name": name, "url": f"https://{name}.example.com", "kind": "gitlab"}
            connection.execute(insert(schema.registries), {**row, "first_seen_at": at})
        places = [(1, name) for name in NAMES] + [(2, "team/app")]
        for number, (registry, name) in enumerate(places, start=1):
            row = {"id": number, "registry_id": registry, "name": name, "first_seen_at": at, "state": "complete"}
            connection.execute(insert(schema.repositories), row)
            for tag in TAGS:
                one = {"repository_id": number, "name": tag, "state": "ok", "first_seen_at": at, "tagged_at": at}
                connection.execute(insert(schema.tags), one)

    database.write_now(work)


def save(database: Database, discovery: Discovery, at: datetime = NOW) -> None:
    database.write_now(lambda connection: save_discovery(connection, 1, discovery, at))


def stored(database: Database) -> dict[str, StoredProject]:
    return {one.project.path: one for one in database.read_now(list_projects)}


def place(database: Database, name: str, registry: int = 1) -> Any:
    table = schema.repositories
    statement = select(table).where(table.c.name == name, table.c.registry_id == registry)
    return database.read_now(lambda connection: connection.execute(statement).one())


def remove(database: Database, *names: str) -> None:
    statement = (
        update(schema.repositories).where(schema.repositories.c.name.in_(names)).values(deleted_at=to_micros(NOW))
    )
    database.write_now(lambda connection: connection.execute(statement))


def number(database: Database) -> int:
    return database.read_now(read_changes).get(PROJECT_RULES, 0)


def test_what_was_found_is_kept_whole(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    projects = stored(database)
    assert projects["team/App"].project == APP
    assert projects["ann/thing"].project == THING
    app = projects["team/App"]
    assert (app.registry, app.repository_count, app.seen_at, app.rules_read_at) == ("git", 2, NOW, NOW)
    assert projects["ann/thing"].rules_read_at is None
    web = place(database, "team/app/web")
    assert (web.project, web.project_group, web.owner, web.project_remote_id) == ("team/App", "team", "mia", 101)
    assert (web.access_level, web.remote_id, web.remote_status) == (40, 2, "delete_scheduled")
    assert place(database, "team/app").remote_created_at == to_micros(NOW - DAY)
    assert place(database, "lost/one").project is None
    assert place(database, "team/app", 2).project is None
    assert database.read_now(lambda connection: list_projects(connection, "other")) == []
    assert database.read_now(lambda connection: load_namespaces(connection, "git")) == list(FOUND.namespaces)


def test_what_could_not_be_read_keeps_its_older_value(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    before = [tuple(place(database, name)) for name in NAMES]
    blind = replace(
        APP, owner=None, access_level=None, cleanup_policy=None, size_bytes=None, rules=None, visibility="", group=""
    )
    places = tuple(replace(one, id=None, created_at=None) for one in PLACES[:2])
    unsure = Discovery(
        mode=Mode.INSTANCE,
        projects=(blind,),
        repositories=places,
        namespaces=(Namespace(path="team"),),
        is_complete=False,
    )
    save(database, unsure, NOW + DAY)
    projects = stored(database)
    assert projects["team/App"].project == APP
    assert (projects["team/App"].seen_at, projects["team/App"].rules_read_at) == (NOW + DAY, NOW)
    assert projects["ann/thing"].seen_at == NOW
    assert [tuple(place(database, name)) for name in NAMES] == before
    assert database.read_now(lambda connection: load_namespaces(connection, "git")) == list(FOUND.namespaces)
    assert number(database) == 1


def test_a_moved_project_keeps_its_row_and_its_rules(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    moved = Discovery(
        mode=Mode.INSTANCE,
        projects=(replace(APP, path="new/place", group="new", rules=None),),
        repositories=(),
        is_complete=False,
    )
    save(database, moved)
    assert stored(database)["new/place"].project.rules == (RULE,)
    assert stored(database)["new/place"].repository_count == 2
    assert (place(database, "team/app").project, place(database, "team/app").project_group) == ("new/place", "new")


def test_only_a_complete_discovery_takes_away(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    empty = Discovery(mode=Mode.INSTANCE, is_complete=False)
    save(database, empty)
    assert stored(database).keys() == {"team/App", "ann/thing"}
    # The project is not listed, but its repository is: it stays with its rules.
    save(database, replace(empty, is_complete=True, repositories=PLACES[:1]))
    assert place(database, "team/app").project == "team/App"
    # Nor does a repository that is there lose its project: a page may have shifted while the list was read.
    assert stored(database).keys() == {"team/App", "ann/thing"}
    assert place(database, "team/app/web").project == "team/App"
    remove(database, "team/app/web", "ann/thing")
    save(database, replace(empty, is_complete=True, repositories=PLACES[:1]))
    assert stored(database).keys() == {"team/App"}
    assert place(database, "team/app/web").project is None
    assert place(database, "team/app/web").remote_id is None
    remove(database, "team/app")
    save(database, replace(empty, is_complete=True))
    assert stored(database) == {}


def test_rules_that_are_not_all_take_none_away(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    some = replace(APP, path="team/app", rules=(FINAL,), are_all_rules=False)
    save(database, replace(FOUND, projects=(some,), is_complete=False), NOW + DAY)
    project = stored(database)["team/App"]  # a token names the path in lower case
    assert (project.project.rules, project.rules_read_at) == (tuple(sorted((FINAL, RULE))), NOW)


def test_a_change_of_rules_or_places_is_counted_and_nothing_else(database: Database) -> None:
    fill(database)
    save(database, FOUND)
    assert number(database) == 1
    save(database, FOUND, NOW + DAY)
    assert number(database) == 1
    other = replace(APP, rules=(FINAL, RULE))
    save(database, replace(FOUND, projects=(other, THING)))
    assert number(database) == 2
    elsewhere = (replace(PLACES[2], project_id=101), *PLACES[:2])
    save(database, replace(FOUND, projects=(other, THING), repositories=elsewhere))
    assert number(database) == 3
    save(database, replace(FOUND, projects=(replace(APP, rules=()), THING)))
    assert stored(database)["team/App"].project.rules == ()
    assert number(database) == 4


def test_what_an_evil_gitlab_says_is_kept_without_harm(database: Database) -> None:
    fill(database)
    rules = (ProtectionRule(RuleKind.TAG, "a\x00b\ud800" + "c" * 5000, "\x00"), RULE, replace(RULE, delete_role=""))
    evil = Project(
        id=7,
        path="x\x00" * 3000,
        owner="\x1b[31m\ud800",
        access_level=10**12,
        size_bytes=2**80,
        cleanup_policy={"a": "\ud800"},
        rules=rules,
    )
    places = (ProjectRepository(name="team/app", project_id=7, id=2**70, status="\x00" * 9),)
    save(
        database,
        Discovery(
            mode=Mode.PROJECT,
            projects=(evil, replace(evil, id=2**64), replace(evil, id=-1)),
            repositories=(*places, ProjectRepository(name="ann/thing", project_id=2**64)),
            namespaces=(Namespace(path="\x00n", size_bytes=-5),),
        ),
    )
    (found,) = database.read_now(list_projects)
    assert (found.project.id, found.project.access_level, found.project.owner) == (7, None, "[31m")
    assert place(database, "team/app").remote_id is None
    # A pattern that was cut is none that says less.
    holds = database.read_now(lambda connection: load_rule_holds(connection, "git"))
    assert [(one.repository, one.tag) for one in holds] == [("team/app", tag) for tag in sorted(TAGS)]


def test_thousands_of_repositories_are_a_few_statements(database: Database) -> None:
    fill(database)
    rows = [
        {"id": one + 50, "registry_id": 1, "name": f"team/app/{one}", "first_seen_at": 0, "state": "complete"}
        for one in range(10_000)
    ]
    database.write_now(lambda connection: bulk_insert(connection, schema.repositories, rows))
    places = tuple(ProjectRepository(name=f"team/app/{one}", project_id=101, id=one + 50) for one in range(10_000))
    seen: list[str] = []

    def work(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", lambda *given: seen.append(given[2]))
        save_discovery(connection, 1, replace(FOUND, repositories=places), NOW)

    database.write_now(work)
    assert len(seen) < 40
    assert stored(database)["team/App"].repository_count == 10_000


def test_tags_are_marked_by_the_rules_of_their_project(database: Database) -> None:
    fill(database)
    readable = replace(THING, rules=())
    save(database, replace(FOUND, projects=(replace(APP, rules=(RULE, FINAL)), readable)))
    mark_protected(database)
    assert marks(database) == {
        **{(name, tag): int(tag != "latest") for name in NAMES[:2] for tag in TAGS},
        **{("ann/thing", tag): 0 for tag in TAGS},
        **{("lost/one", tag): None for tag in TAGS},
    }
    # Rules that go; a repository that is there keeps its project.
    save(database, replace(FOUND, projects=(replace(APP, rules=()),), repositories=PLACES[:2]))
    mark_protected(database)
    assert {name for (name, _), flag in marks(database).items() if flag == 0} == set(NAMES[:3])
    assert {name for (name, _), flag in marks(database).items() if flag is None} == set(NAMES[3:])


def mark_protected(database: Database) -> None:
    """As after a crawl; then nothing is left to be marked."""
    wrong = database.read_now(lambda connection: find_wrong_marks(connection, 1))
    for flag, ids in wrong.items():
        database.write_now(partial(mark_tags, ids=ids, flag=flag))
    assert not any(database.read_now(lambda connection: find_wrong_marks(connection, 1)).values())


def marks(database: Database) -> dict[tuple[str, str], int | None]:
    statement = (
        select(schema.repositories.c.name, schema.tags.c.name, schema.tags.c.is_protected)
        .join(schema.tags, schema.tags.c.repository_id == schema.repositories.c.id)
        .where(schema.repositories.c.registry_id == 1)
    )
    rows = database.read_now(lambda connection: connection.execute(statement).all())
    return {(name, tag): flag for name, tag, flag in rows}


def test_repositories_that_a_rule_protects_are_named(database: Database) -> None:
    fill(database)
    rule = ProtectionRule(RuleKind.REPOSITORY, "Team/App*", "owner")
    save(database, replace(FOUND, projects=(replace(APP, rules=(rule,)), THING)))
    found = database.read_now(lambda connection: find_protected_repositories(connection, "git", NAMES))
    assert found == dict.fromkeys(NAMES[:2], "GitLab lets only owners delete repositories like Team/App*")


def test_the_size_is_asked_for_again_only_after_changes(database: Database) -> None:
    fill(database)

    def unsized() -> list[str]:
        return database.read_now(lambda connection: find_unsized(connection, 1, [*NAMES, "none/such"]))

    assert unsized() == sorted(NAMES)
    for name, size in zip(NAMES, (RepositorySize(size_bytes=7, precision="untagged"), None, None, None), strict=True):
        database.write_now(partial(save_remote_size, registry_id=1, repository=name, size=size, at=NOW))
    row = place(database, "team/app")
    assert (row.remote_bytes, row.remote_precision, row.remote_sized_at) == (7, "untagged", to_micros(NOW))
    assert place(database, "ann/thing").remote_bytes is None
    assert unsized() == []
    point = {"tag": "v1", "digest": b"", "cause": "event"}
    for repository_id, at in ((1, NOW - DAY), (2, NOW + DAY)):
        values = {**point, "repository_id": repository_id, "at": to_micros(at), "effective_at": to_micros(at)}
        database.write_now(partial(add_point, values=values))
    assert unsized() == ["team/app/web"]


def add_point(connection: Connection, values: dict[str, Any]) -> None:
    connection.execute(insert(schema.tag_history), values)


def test_access_is_kept_as_it_was_found(database: Database) -> None:
    fill(database)
    access = Access(
        mode=Mode.GROUP,
        user="mia",
        scopes=("api",),
        expires_at=NOW,
        features=Features.DATABASE,
        can_untag=True,
        lacks=("read_api is missing",),
    )
    assert database.read_now(lambda connection: load_access(connection, "git")) is None
    database.write_now(lambda connection: save_access(connection, 1, access))
    assert database.read_now(lambda connection: load_access(connection, "git")) == access
    assert database.read_now(lambda connection: load_access(connection, "other")) is None
    later = update(schema.registries).values(access='{"mode":"galaxy"}')
    database.write_now(lambda connection: connection.execute(later))
    assert database.read_now(lambda connection: load_access(connection, "git")) is None
