"""Pulls on the command line: counted, listed with their tags, and unknown where no notification had come yet."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from regwarden import InputError, connect
from regwarden.store.database import Access, open_database
from regwarden.store.event_schema import pull_days
from regwarden.store.schema import registries, repositories, repository_manifests, tags
from regwarden.store.times import to_micros
from tests.sample_inventory import Run, small_registry

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def pulled(run: Run, tmp_path, now: datetime) -> str:
    """The small registry; `latest` (= 1.2.0) is pulled yesterday, 1.0.0 was scanned, nothing else was asked for."""
    url = f"sqlite:///{tmp_path}/pulled.sqlite3"
    with small_registry() as registry:
        assert run("crawl", registry.url, "--name", "small", "--database", url).exit_code == 0
    database = open_database(url, access=Access.WRITE, create=False)

    def work(connection) -> None:
        connection.execute(update(registries).values(events_since=to_micros(now - 40 * DAY)))
        for tag, named, kind, method, count, days in (
            ("latest", "latest", "workload", "HEAD", 5, 1),
            ("latest", "", "workload", "GET", 2, 0),
            ("1.0.0", "", "scanner", "GET", 7, 0),
            ("1.1.0", "1.1.0", "ci", "GET", 1, 50),
        ):
            place = (
                select(tags.c.repository_id, tags.c.manifest_id)
                .join(repositories, repositories.c.id == tags.c.repository_id)
                .where(repositories.c.name == "team/app", tags.c.name == tag)
            )
            repository_id, manifest_id = connection.execute(place).one()
            at = now - days * DAY
            row = {"repository_id": repository_id, "manifest_id": manifest_id, "tag": named, "pull_class": kind}
            row |= {"day": (at - EPOCH) // DAY, "method": method, "pull_count": count, "last_at": to_micros(at)}
            connection.execute(insert(pull_days), row)
            if kind == "workload":
                clock = {"checked_at" if method == "HEAD" else "fetched_at": to_micros(at), "pulled_at": to_micros(at)}
                here = repository_manifests.c.manifest_id == manifest_id
                connection.execute(update(repository_manifests).where(here).values(clock))

    database.write_now(work)
    database.close()
    return url


def _json(run: Run, url: str, *words: str):
    result = run(*words, "--database", url, "--output", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_pulls_are_counted_by_repository_and_tag_for_thirty_days(run: Run, pulled: str) -> None:
    rows = _json(run, pulled, "pull", "list")
    shown = [
        (row["repository"], row["tag"], row["pull_count"], row["named_count"], row["digest_count"]) for row in rows
    ]
    # 1.2.0 points to the same manifest as latest; a crawl just now is the first that is known of them.
    assert shown == [
        ("team/app", "1.0.0", 7, 0, 7),
        ("team/app", "latest", 7, 5, 2),
        ("team/app", "1.2.0", 2, 0, 2),
    ]
    assert list(rows[0]) == ["registry", "repository", "tag", "pull_count", "named_count", "digest_count", "last_at"]


def test_classes_methods_days_and_tags_choose(run: Run, pulled: str, now: datetime) -> None:
    words = ("pull", "list", "team/app", "--by", "class,method", "--since", "90d", "--sort", "class")
    rows = _json(run, pulled, *words)
    assert [(row["pull_class"], row["method"], row["pull_count"]) for row in rows] == [
        ("ci", "GET", 1),
        ("scanner", "GET", 7),
        ("workload", "GET", 2),
        ("workload", "HEAD", 5),
    ]
    assert [row["pull_count"] for row in _json(run, pulled, *words, "--class", "ci", "--class", "scanner")] == [1, 7]
    assert [row["pull_count"] for row in _json(run, pulled, *words, "--method", "head")] == [5]
    assert [row["pull_count"] for row in _json(run, pulled, *words, "--tag", "glob:1.0*")] == [7]
    until = _json(run, pulled, "pull", "list", "--by", "day", "--since", "90d", "--until", "20d")
    assert [row["day"] for row in until] == [(now - 50 * DAY).date().isoformat()]


def test_pulls_as_of_a_moment_are_those_of_the_days_until_then(run: Run, pulled: str, now: datetime) -> None:
    then = (now - 20 * DAY).isoformat()
    assert _json(run, pulled, "pull", "list", "--by", "day", "--as-of", (now - 51 * DAY).isoformat()) == []
    usual = _json(run, pulled, "pull", "list", "--by", "day", "--as-of", (now - 45 * DAY).isoformat())
    assert [row["day"] for row in usual] == [(now - 50 * DAY).date().isoformat()]
    assert _json(run, pulled, "pull", "list", "--by", "day", "--as-of", then, "--since", "10d") == []
    with connect(pulled) as inventory:
        assert [row.pull_count for row in inventory.pulls(by=["day"], since=None, as_of=then)] == [1]
        assert [row.pull_count for row in inventory.pulls(by=["day"], since=None, until=now, as_of=then)] == [1]


def test_csv_has_a_line_for_each_day(run: Run, pulled: str, now: datetime) -> None:
    result = run("pull", "list", "--by", "day", "--database", pulled, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["day"], row["pull_count"]) for row in rows] == [
        ((now - DAY).date().isoformat(), "5"),
        (now.date().isoformat(), "9"),
    ]


def test_a_table_says_since_when_pulls_are_known(run: Run, pulled: str, now: datetime) -> None:
    since = (now - 40 * DAY).date().isoformat()
    asked = run("pull", "list", "--since", "60d", "--database", pulled)
    assert f"small: pulls are known since {since}, earlier ones are unknown" in asked.stderr
    assert "known since" not in run("pull", "list", "--since", "30d", "--database", pulled).stderr
    nothing = run("pull", "list", "team/web", "--database", pulled)
    assert nothing.exit_code == 0
    assert nothing.stdout == ""
    assert "no pulls match" in nothing.stderr


def test_without_notifications_nothing_is_said_to_be_never_pulled(run: Run, inventory_url: str) -> None:
    result = run("pull", "list", "--database", inventory_url)
    assert "small: no notification has come yet, so nothing is known of its pulls" in result.stderr
    shown = run("tag", "list", "--columns", "tag,pulled", "--database", inventory_url)
    assert "not since" not in shown.stdout
    unknown = run("tag", "list", "--where", "pulled > 1d", "--database", inventory_url)
    assert "is unknown of them; --include-unknown" in unknown.stderr


def test_a_list_shows_since_when_a_tag_was_not_pulled(run: Run, pulled: str, now: datetime) -> None:
    since = (now - 40 * DAY).date().isoformat()
    table = run("tag", "list", "team/app", "--columns", "tag,pulled,fetched,checked", "--database", pulled).stdout
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert lines["1.0.0"].count(f"not since {since}") == 3
    assert "not since" not in lines["latest"]
    rows = {row["tag"]: row for row in _json(run, pulled, "tag", "list", "team/app")}
    assert rows["1.0.0"]["pulled_at"] is None
    assert rows["1.0.0"]["pulls_known_since"].startswith(since)
    assert rows["latest"]["pulled_at"] == rows["1.2.0"]["pulled_at"] is not None


def test_long_unused_tags_are_found_as_far_as_pulls_are_known(run: Run, pulled: str) -> None:
    found = _json(run, pulled, "tag", "list", "team/app", "--where", "pulled > 30d")
    assert [row["tag"] for row in found] == ["1.0.0", "1.1.0"]
    assert _json(run, pulled, "tag", "list", "team/app", "--where", "pulled > 50d") == []
    repositories_found = _json(run, pulled, "repository", "list", "--where", "pulled > 30d")
    assert [row["repository"] for row in repositories_found] == ["team/web"]


def test_a_tag_and_a_digest_show_their_clocks_and_who_pulled_them(run: Run, pulled: str, now: datetime) -> None:
    people = run("tag", "show", "team/app:latest", "--database", pulled)
    assert people.exit_code == 0, people.stderr
    assert "Pulls of the last 30 days" in people.stdout
    assert "workload" in people.stdout
    unused = run("tag", "show", "team/app:1.1.0", "--database", pulled).stdout
    assert f"not since {(now - 40 * DAY).date().isoformat()}" in unused
    assert "Pulls of" not in unused
    tag = _json(run, pulled, "tag", "show", "team/app:latest")
    assert sorted((row["method"], row["pull_count"]) for row in tag["pulls"]) == [("GET", 2), ("HEAD", 5)]
    manifest = _json(run, pulled, "manifest", "show", "team/app:latest")
    assert manifest["pulled_at"] == tag["pulled_at"]
    assert sorted(row["pull_count"] for row in manifest["pulls"]) == [2, 5]
    assert "checked at" in run("manifest", "show", "team/app:latest", "--database", pulled).stdout


def test_the_pulls_of_a_tag_at_a_moment_are_those_before_it(run: Run, pulled: str) -> None:
    with connect(pulled) as inventory:
        first_seen_at = inventory.tag("team/app:1.1.0").first_seen_at
    tomorrow = (first_seen_at + DAY).isoformat()
    tag = _json(run, pulled, "tag", "show", "team/app:latest", "--as-of", tomorrow)
    assert sum(row["pull_count"] for row in tag["pulls"]) == 7
    people = run("manifest", "show", "team/app:latest", "--as-of", tomorrow, "--database", pulled)
    assert "Pulls of the last 30 days" in people.stdout


def test_the_library_counts_pulls(pulled: str) -> None:
    with connect(pulled) as inventory:
        rows = inventory.pulls("small/team/app:latest", by="class", since=None)
        assert [(row.pull_class, row.pull_count) for row in rows] == [("workload", 7)]
        assert inventory.pulls(by="registry", since=None, classes=["ci"])[0].pull_count == 1
        with pytest.raises(InputError, match="not a class of pulls"):
            inventory.pulls(classes=["bots"])
        with pytest.raises(InputError, match="ends before it begins"):
            inventory.pulls(since="1d", until="2d")
        with pytest.raises(InputError, match="no argument 'where'"):
            inventory.pulls(where=["x"])  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--by", "weekday"), "'weekday' is not a column of this report"),
        (("--by", ","), "must be counted by something"),
        (("--sort", "tag", "--by", "day"), "'tag' is not a column of this report"),
        (("--sort", "day:up", "--by", "day"), "is not an order"),
        (("--since", "yesterday"), "is not a time"),
        (("--registry", "other"), "nothing is known of a registry 'other'"),
    ],
)
def test_what_cannot_be_understood_is_said(run: Run, pulled: str, words: tuple[str, ...], message: str) -> None:
    result = run("pull", "list", *words, "--database", pulled)
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_hostile_names_cannot_move_the_cursor(run: Run, pulled: str) -> None:
    result = run("pull", "list", "--tag", "\x1b[31m", "--database", pulled)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
