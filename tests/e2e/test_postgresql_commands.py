"""The commands against PostgreSQL: what a person does, with the database of a production installation."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from regwarden.testing.company import company_content
from regwarden.testing.server import running_sample_registry

pytestmark = pytest.mark.e2e


def regwarden(database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regwarden", "--database", database, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_same_answers_from_postgresql_as_from_sqlite(postgresql_url, tmp_path):
    sqlite_url = f"sqlite:///{tmp_path}/inventory.sqlite3"
    questions = [
        ["tag", "list", "--count"],
        [
            "tag",
            "list",
            "--where",
            "size > 100MiB",
            "--sort",
            "-size",
            "--sort",
            "repository",
            "--sort",
            "tag",
            "--columns",
            "repository,tag,size",
            "--output",
            "csv",
        ],
        ["tag", "list", "glob:prod/**:semver:>=1.2", "--columns", "repository,tag,digest", "--output", "json"],
        [
            "repository",
            "list",
            "--columns",
            "repository,tag_count,stored_bytes,exclusive_bytes,disk_size",
            "--output",
            "csv",
        ],
        ["manifest", "list", "--where", "is_index = true", "--columns", "repository,digest,tags", "--output", "json"],
        ["blob", "list", "--count"],
    ]
    with running_sample_registry(company_content(datetime(2026, 11, 1, tzinfo=UTC))) as registry:
        for database in (postgresql_url, sqlite_url):
            crawled = regwarden(database, "crawl", registry.url, "--name", "company")
            assert crawled.returncode == 0, crawled.stderr
    for question in questions:
        answers = [regwarden(database, *question) for database in (postgresql_url, sqlite_url)]
        assert [answer.returncode for answer in answers] == [0, 0], answers[0].stderr
        assert answers[0].stdout == answers[1].stdout
        assert len(answers[0].stdout) > 1
    report = json.loads(regwarden(postgresql_url, "db", "check", "--output", "json").stdout)
    assert report
