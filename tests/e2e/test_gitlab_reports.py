"""GitLab's figures and ours agree on what both count, after a crawl of a GitLab in front of a real registry."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from regwarden.library import connect
from regwarden.testing.images import image, index, layer
from tests.gitlab_double.running import running_gitlab
from tests.sample_inventory import run_cli

pytestmark = pytest.mark.e2e


def test_sizes_agree_by_gitlabs_definition_and_the_policy_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    run = partial(run_cli, tmp_path, REGWARDEN_DATABASE=url)
    base = layer("base", 100_000)
    one, two = (image([base, layer(name, 20_000)]) for name in ("one", "two"))
    with running_gitlab(tmp_path, mode="database") as gitlab:
        gitlab.push("team/app", one, "1.0")
        gitlab.push("team/app", index([one, two]), "latest")
        gitlab.push("team/sub/tool/cli", two, "2.0")
        token = tmp_path / "token"
        token.write_text(gitlab.tokens["admin"])
        words = ("--name", "lab", "--gitlab", gitlab.url, "--password-file", str(token))
        crawled = run("crawl", gitlab.registry_url, *words)
        assert crawled.exit_code == 0, crawled.stderr
        inventory = connect(url)
        sizes = {row.name: row for row in inventory.gitlab_sizes("lab")}
        assert sizes["team/app"].difference_bytes == 0
        assert sizes["team/sub/tool/cli"].difference_bytes == 0
        assert "both are the same" in sizes["team/app"].reasons[0]
        assert {"team/app", "team/sub/tool"} <= {row.project for row in inventory.projects()}
        groups = {one.group for one in inventory.usage(group_by="group", depth=1).groups}
        assert groups == {"team"}
        assert inventory.cleanup_policies(project="team/app")[0].is_enabled
        assert inventory.simulate_cleanup("team/app").tags
