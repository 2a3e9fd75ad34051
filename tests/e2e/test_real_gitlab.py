"""A GitLab that really exists is checked and read, and its figures are compared with ours; nothing is written there.

Opt-in: `REGWARDEN_GITLAB_URL`, `REGWARDEN_GITLAB_REGISTRY` (the registry's address), `REGWARDEN_GITLAB_TOKEN_FILE` (a
token with read_registry and read_api), and a `REGWARDEN_GITLAB_GROUP` or `REGWARDEN_GITLAB_PROJECT` to stay within.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from regwarden import connect
from regwarden.library import Inventory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

NAME = "real"
NEEDED = ("REGWARDEN_GITLAB_URL", "REGWARDEN_GITLAB_REGISTRY", "REGWARDEN_GITLAB_TOKEN_FILE")
SCOPES = {"REGWARDEN_GITLAB_GROUP": "gitlab_groups", "REGWARDEN_GITLAB_PROJECT": "gitlab_projects"}


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.skip(f"no real GitLab is named: set {', '.join(missing)}; see CONTRIBUTING.md")
    gitlab, registry, token_file = (os.environ[name] for name in NEEDED)
    settings = {"name": NAME, "kind": "gitlab", "url": registry, "gitlab_url": gitlab, "password_file": token_file}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines += [f"{name} = {json.dumps([os.environ[word]])}" for word, name in SCOPES.items() if os.environ.get(word)]
    config = tmp_path / "regwarden.toml"
    config.write_text("\n".join(["[[registry]]", *lines, ""]))
    with connect(f"sqlite:///{tmp_path}/i.sqlite3", config=config, environ={"HOME": str(tmp_path)}) as opened:
        yield opened


def test_it_is_read_and_its_figures_are_explained(inventory: Inventory) -> None:
    check = inventory.check(NAME)
    assert check.error is None, check.error
    report = inventory.crawl(NAME)
    assert report.state == "complete", report
    assert report.certificate.repository_count == len(inventory.repositories()) > 0
    assert inventory.projects(NAME), "the repositories were joined to no project"
    for row in inventory.gitlab_sizes(NAME):
        if row.difference_bytes:
            assert row.reasons, (
                f"{row.name}: {row.gitlab_bytes} by GitLab, {row.tagged_layer_bytes} here, and no reason"
            )
    again = inventory.crawl(NAME)
    assert again.state == "complete"
    assert again.certificate.manifest_body_count <= report.certificate.manifest_body_count
