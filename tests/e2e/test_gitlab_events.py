"""The inventory follows a GitLab's registry by its notifications, in each mode, and equals what a fresh crawl finds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from regwarden.library import Inventory
from tests.gitlab_double.asking import ask, fetch_token
from tests.gitlab_double.running import MODES, GitLab, Mode, running_gitlab
from tests.gitlab_settings import NAME, write_block
from tests.live_registry import TOLD_BY_GITLAB, Live, multi_platform, picture

pytestmark = pytest.mark.e2e

SECRET = "a-secret-of-the-second-endpoint"
SERVER = '[server]\nlisten = ["127.0.0.1:{port}"]\n[defaults]\ncrawl_every = "never"\n'


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def tags(inventory: Inventory) -> dict[str, str]:
    return {f"{row.repository}:{row.tag}": row.digest for row in inventory.tags()}


@pytest.fixture(params=MODES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[GitLab, Live]]:
    """A GitLab, and a service that its registry notifies beside GitLab itself."""
    mode: Mode = request.param
    port, secret = free_port(), tmp_path / "secret"
    secret.write_text(SECRET)
    with running_gitlab(
        tmp_path, mode=mode, notify=[(f"http://127.0.0.1:{port}/hooks/{NAME}", f"Bearer {SECRET}")]
    ) as gitlab:
        scope = f'hook_secret_files = ["{secret}"]\n'
        configuration = SERVER.format(port=port) + write_block(tmp_path, gitlab, scope=scope)
        live = Live(tmp_path, f"sqlite:///{tmp_path}/i.sqlite3", gitlab.registry, configuration, is_hasty=True)
        live.start_service()
        try:
            yield gitlab, live
        finally:
            live.stop_service()


def test_the_inventory_follows_the_events_and_equals_a_fresh_crawl(place: tuple[GitLab, Live]) -> None:
    gitlab, live = place
    expected = push_everything(gitlab, live)
    delete(gitlab, live, expected)
    rename(gitlab, live, expected)
    live.becomes(True, lambda _: live.is_settled())
    # What GitLab alone knows is asked for by the next crawl; what no crawl has read is partial until then.
    assert live.differences(ignored=TOLD_BY_GITLAB | {"state"}) == {}
    crawled = live.ask("crawl", NAME)
    assert crawled.exit_code == 0, crawled.output
    assert live.differences() == {}


def push_everything(gitlab: GitLab, live: Live) -> dict[str, str]:
    expected = {}
    for name, tag, built in (
        ("team/app", "1.0", picture("one", is_oci=False)),
        ("team/app", "1.1", picture("one", is_oci=False)),
        ("team/app", "2.0", picture("two")),
        ("team/app", "2.0", picture("three")),
        ("team/sub/tool/cli", "1", multi_platform("1")),
        ("ann/thing", "1", picture("two")),
    ):
        expected[f"{name}:{tag}"] = gitlab.push(name, built, tag)
    live.becomes(expected, tags)
    return expected


def delete(gitlab: GitLab, live: Live, expected: dict[str, str]) -> None:
    """A tag alone, where the registry can do that, and a manifest with all its tags."""
    token = fetch_token(gitlab, "repository:team/app:pull,delete")
    if gitlab.mode != "plain":
        assert ask(gitlab, "/v2/team/app/manifests/1.1", token, method="DELETE").status == 202
        del expected["team/app:1.1"]
        live.becomes(expected, tags)
    digest = expected["team/app:1.0"]
    assert ask(gitlab, f"/v2/team/app/manifests/{digest}", token, method="DELETE").status == 202
    for name in [name for name, target in expected.items() if name.startswith("team/app:") and target == digest]:
        del expected[name]
    live.becomes(expected, tags)


def rename(gitlab: GitLab, live: Live, expected: dict[str, str]) -> None:
    """A project moves with all that lies below it, perhaps while something of it is being read."""
    gitlab.rename("team/sub/tool", "team/sub/gear")
    expected["team/sub/gear/cli:1"] = expected.pop("team/sub/tool/cli:1")
    live.becomes(expected, tags)
