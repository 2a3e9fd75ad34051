"""What a tag pointed to before, from the command line and from Python."""

from __future__ import annotations

import json

import pytest

from regwarden import NotFound, connect
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import running_sample_registry
from tests.sample_inventory import Run


@pytest.fixture
def moved(run: Run, tmp_path):
    """An inventory in which a tag has moved and another one is gone: its address, and the digests in order."""
    content = Content()
    app = content.repository("team/app")
    for number in range(9):
        app.add(image([layer(f"other {number}", 5)]), f"1.{number}")
    first = app.add(image([layer("one", 1)]), "latest", "gone")
    url = f"sqlite:///{tmp_path}/moved.sqlite3"
    with running_sample_registry(content) as registry:
        assert run("crawl", registry.url, "--name", "small", "--database", url).exit_code == 0
        second = app.add(image([layer("two", 2)]), "latest")
        del app.tags["gone"]
        assert run("crawl", registry.url, "--name", "small", "--database", url).exit_code == 0
    return url, str(first), str(second)


def test_a_moved_tag_tells_what_it_pointed_to_newest_first(run: Run, moved) -> None:
    url, first, second = moved
    rows = json.loads(run("tag", "history", "team/app:latest", "--database", url, "--output", "json").stdout)
    assert [(row["digest"], row["cause"]) for row in rows] == [(second, "crawl"), (first, "crawl")]
    assert rows[0]["until"] is None
    assert rows[1]["until"] == rows[0]["since"]
    people = run("tag", "history", "small/team/app:latest", "--database", url)
    assert people.exit_code == 0, people.stderr
    assert first.removeprefix("sha256:")[:12] in people.stdout


def test_a_tag_that_is_gone_has_a_history(run: Run, moved) -> None:
    url, first, _ = moved
    rows = json.loads(run("tag", "history", "team/app:gone", "--database", url, "--output", "json").stdout)
    assert [(row["digest"], row["state"]) for row in rows] == [(None, "gone"), (first, "ok")]


def test_a_moment_has_one_answer_or_is_before_all_knowledge(run: Run, moved) -> None:
    url, first, second = moved
    with connect(url) as inventory:
        newest, oldest = inventory.history("team/app:latest")
        assert [row.digest for row in inventory.history("team/app:latest", as_of=oldest.since)] == [first]
        assert [row.digest for row in inventory.history("team/app:latest", as_of=newest.since)] == [second]
        with pytest.raises(NotFound, match="not known"):
            inventory.history("team/app:latest", as_of="2020-01-01")
    early = run("tag", "history", "team/app:latest", "--as-of", "2020-01-01", "--database", url)
    assert early.exit_code == 1
    assert "error[before-history]" in early.stderr
    assert "first observed" in early.stderr


@pytest.mark.parametrize(("reference", "status"), [("team/app:never", 1), ("team/app", 2), ("team/app:1 2", 2)])
def test_what_was_never_observed_or_is_no_tag_is_said(run: Run, moved, reference: str, status: int) -> None:
    result = run("tag", "history", reference, "--database", moved[0])
    assert result.exit_code == status
    assert "hint:" in result.stderr
