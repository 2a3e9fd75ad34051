"""A crawl process that is killed: the database stays sound and the next crawl continues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import running_sample_registry

pytestmark = pytest.mark.e2e


@pytest.fixture
def slow_registry():
    content = Content()
    for number in range(40):
        for release in range(10):
            content.repository(f"app{number:02}").add(image([layer(f"{number} {release}", 10)]), f"{release}")
    with running_sample_registry(content, behaviour=Behaviour(latency_seconds=0.01)) as registry:
        yield registry


def regwarden(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "regwarden", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT] if sys.platform != "win32" else [signal.SIGTERM], ids=lambda how: how.name
)
def test_a_killed_crawl_continues(slow_registry, tmp_path, how):
    database = f"sqlite:///{tmp_path}/inventory.sqlite3"
    process = regwarden("crawl", slow_registry.url, "--database", database)
    deadline = time.monotonic() + 60
    while len(slow_registry.requests) < 600 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "again" in stderr
    before = len(slow_registry.requests)
    again = regwarden("crawl", slow_registry.url, "--database", database)
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    # All of it takes 1 + 1 + 40 + 400 + 400 requests: what was read before is not read again.
    assert len(slow_registry.requests) - before < 843 - 200
    counted = regwarden("tag", "list", "--count", "--database", database)
    assert counted.communicate(timeout=30)[0].strip() == "400"
    checked = regwarden("db", "check", "--output", "json", "--database", database)
    assert checked.wait(timeout=30) == 0
    assert json.loads(checked.communicate()[0])
