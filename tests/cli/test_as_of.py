"""What there was at a moment, and the growth since, from the command line and from Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from regwarden import InputError, NotFound, connect
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, layer
from regwarden.testing.server import running_sample_registry
from tests.sample_inventory import Run, run_cli

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Past:
    """An inventory that was crawled twice: its address, a moment after each crawl, and two digests of one tag."""

    url: str
    first: datetime
    second: datetime
    old_digest: str
    new_digest: str


@pytest.fixture(scope="module")
def past(tmp_path_factory) -> Past:
    place = tmp_path_factory.mktemp("past")
    content = Content()
    app = content.repository("team/app")
    for number in range(9):
        app.add(image([layer(f"other {number}", 5_000)]), f"1.{number}")
    config = image_config(created=datetime.now(UTC) - timedelta(days=10))
    old = app.add(image([layer("one", 100_000)], config), "latest", "gone")
    content.repository("team/web").add(image([layer("web", 7)]), "edge")
    url = f"sqlite:///{place}/past.sqlite3"
    with running_sample_registry(content) as registry:
        assert run_cli(place, "crawl", registry.url, "--name", "small", "--database", url).exit_code == 0
        first = datetime.now(UTC)
        newer = image_config(created=datetime.now(UTC) - timedelta(days=5))
        new = app.add(image([layer("two", 200_000)], newer), "latest")
        del app.tags["gone"]
        app.add(image([layer("three", 3_000)]), "2.0")
        assert run_cli(place, "crawl", registry.url, "--name", "small", "--database", url).exit_code == 0
    return Past(url, first, datetime.now(UTC), str(old), str(new))


def test_a_list_shows_what_there_was_with_the_sizes_of_then(run: Run, past: Past) -> None:
    then = json.loads(
        run(
            "tag", "list", "team/app", "--as-of", past.first.isoformat(), "--database", past.url, "--output", "json"
        ).stdout
    )
    found = {row["tag"]: row for row in then}
    assert set(found) == {"gone", "latest", *(f"1.{number}" for number in range(9))}
    assert found["latest"]["digest"] == found["gone"]["digest"] == past.old_digest
    # Two tags point there, so deleting one of them would have freed nothing.
    assert found["latest"]["exclusive_bytes"] == 0
    assert found["latest"]["logical_bytes"] > 100_000
    assert found["latest"]["age_days"] == 10


def test_as_of_now_is_the_present(past: Past) -> None:
    with connect(past.url) as inventory:
        for noun in ("repository", "tag", "manifest", "blob"):
            now = [dict(row) for row in inventory.iterate(noun, age_from=past.second)]
            then = [dict(row) for row in inventory.iterate(noun, age_from=past.second, as_of=past.second)]
            assert len(then) == len(now)
            pairs = [(one, other, name) for one, other in zip(then, now, strict=True) for name in one]
            assert [
                (noun, name, one[name], other[name]) for one, other, name in pairs if one[name] != other[name]
            ] == []
        assert [dict(row) for row in inventory.iterate("tag", as_of="2999-01-01", limit=3)]


def test_every_question_takes_a_moment(past: Past) -> None:
    with connect(past.url) as inventory:
        assert inventory.tag("team/app:latest", as_of=past.first).digest == past.old_digest
        assert inventory.digest_of("team/app:latest", as_of=past.first) == past.old_digest
        assert inventory.digest_of("team/app:latest") == past.new_digest
        assert {row.repository: row.tag_count for row in inventory.repositories(as_of=past.first)} == {
            "team/app": 11,
            "team/web": 1,
        }
        assert inventory.count("tag", as_of=past.first) == 12
        assert inventory.count("tag", as_of=past.second) == 12
        (then,), (now,) = inventory.sizes(as_of=past.first), inventory.sizes()
        assert 0 < then.stored_bytes < now.stored_bytes
        assert inventory.consume("tag", lambda rows: sum(1 for _ in rows), as_of=past.first) == 12
        assert inventory.consume("registry", list, as_of=past.first)[0]["tag_count"] == 12
        content = inventory.find_content(past.old_digest, as_of=past.first)
        assert {use.tag for use in content.uses} == {"gone", "latest"}
        assert content.manifest is not None
        assert content.manifest.layers[0].size_bytes > 0
        with pytest.raises(NotFound):
            inventory.tag("team/app:2.0", as_of=past.first)
        usage = inventory.usage(as_of=past.first)
        assert usage.registries[0].stored_bytes == then.stored_bytes
        assert usage.largest_tags[0].digest == past.old_digest


def test_an_age_condition_counts_up_to_the_moment(past: Past) -> None:
    later = past.second
    with connect(past.url) as inventory:
        assert inventory.count("tag", "team/app:latest", where=["created < 11d"], as_of=past.first) == 1
        assert inventory.count("tag", "team/app:latest", where=["created > 11d"], as_of=past.first) == 0
        aged = later + timedelta(days=5)
        assert inventory.count("tag", "team/app:latest", where=["created > 11d"], as_of=past.first, age_from=aged) == 1


def test_people_are_told_the_moment(run: Run, past: Past) -> None:
    moment = past.first.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for command in (
        ["tag", "list"],
        ["tag", "show", "team/app:latest"],
        ["usage"],
        ["manifest", "list"],
        ["blob", "list"],
    ):
        result = run(*command, "--as-of", moment, "--database", past.url)
        assert result.exit_code == 0, result.stderr
        assert f"as of {past.first.strftime('%Y-%m-%d %H:%M')}" in result.stderr
        assert "old" not in result.stderr
    shown = run("manifest", "show", "team/app:latest", "--as-of", moment, "--database", past.url)
    assert past.old_digest in shown.stdout


def test_an_export_of_a_moment(run: Run, past: Past) -> None:
    result = run("export", "tag", "--columns", "tag,digest", "--as-of", past.first.isoformat(), "--database", past.url)
    assert f"gone,{past.old_digest}" in result.stdout
    assert "as of" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["tag", "list"],
        ["tag", "show", "team/app:latest"],
        ["usage"],
        ["export", "registry"],
        ["manifest", "show", "ab12cd"],
    ],
)
def test_before_the_first_observation_is_said_with_its_moment(run: Run, past: Past, command: list[str]) -> None:
    result = run(*command, "--as-of", "2020-01-01", "--database", past.url)
    assert result.exit_code == 1
    assert "error[before-history]" in result.stderr
    assert "history of small begins at 20" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "list", "--as-of", "yesterday"],
        ["tag", "list", "--as-of", "2026-01-01", "--refresh"],
        ["tag", "show", "a:b", "--as-of", "2026-01-01", "--refresh"],
        ["usage", "--growth", "--as-of", "2026-01-01"],
        ["usage", "--since", "90d"],
        ["usage", "--growth", "--since", "a while"],
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, past: Past, arguments: list[str]) -> None:
    result = run(*arguments, "--database", past.url)
    assert result.exit_code == 2, result.stderr


def test_growth_has_a_row_for_each_day_with_figures(run: Run, past: Past) -> None:
    rows = json.loads(run("usage", "--growth", "--database", past.url, "--output", "json").stdout)
    assert rows[-1]["tag_count"] == 12
    assert rows[-1]["stored_bytes"] > 200_000
    assert rows[0]["stored_change_bytes"] is None
    table = run("usage", "--growth", "--by", "month", "--repository", "team/web", "--database", past.url)
    assert table.exit_code == 0, table.stderr
    assert "####################" in table.stdout
    with connect(past.url) as inventory:
        web = inventory.growth("small", repository="team/web", since=past.first)
        assert [(row.repository, row.tag_count) for row in web] == [("team/web", 1)]
        with pytest.raises(NotFound):
            inventory.growth(repository="team/none")
        with pytest.raises(InputError):
            inventory.growth(by="fortnight")


def test_growth_without_figures_says_since_when_there_are_some(run: Run, past: Past) -> None:
    result = run("usage", "--growth", "--since", "2999-01-01", "--database", past.url)
    assert result.exit_code == 0
    assert f"figures begin on {past.first.date()}" in result.stderr
