"""Applications below a path, and what they see of a request."""

from __future__ import annotations

from typing import Any

import pytest

from regwarden.web.app import Application
from regwarden.web.mounting import Mount, is_below, raw_path, strip_prefix
from tests.web.conftest import ask


@pytest.mark.parametrize(
    ("path", "raw", "seen", "seen_raw"),
    [
        ("/compat/x/images/a", b"/compat/x/images/a", "/images/a", b"/images/a"),
        ("/compat/x/images/a/b", b"/compat/x/images/a%2Fb", "/images/a/b", b"/images/a%2Fb"),
        ("/compat/x", b"/compat/x", "/", b"/"),
        ("/compat/x/", b"/compat/x/", "/", b"/"),
        ("/compat/x/é", b"/c%6fmpat/x/%C3%A9", "/é", b"/%C3%A9"),
        ("/compat/x/compat/x/", b"/compat/x/compat/x/", "/compat/x/", b"/compat/x/"),
    ],
)
def test_the_prefix_is_taken_off_both_paths(path: str, raw: bytes, seen: str, seen_raw: bytes):
    scope = strip_prefix({"path": path, "raw_path": raw, "root_path": ""}, "/compat/x")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == (seen, seen_raw, "")


def test_a_raw_path_is_always_ascii():
    assert raw_path({"path": "/a b", "raw_path": None}) == b"/a%20b"
    assert raw_path({"path": "/x", "raw_path": b"/\xff%2F"}) == b"/%FF%2F"


def test_a_longer_name_is_not_below():
    assert is_below("/auth", "/auth")
    assert is_below("/auth/x", "/auth")
    assert not is_below("/authority", "/auth")


async def test_the_main_listener_passes_on_what_is_mounted(monkeypatch: pytest.MonkeyPatch):
    async def echo(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    unused: Any = None
    app = Application(unused, unused, [Mount("/auth", echo), Mount("/api/v1", echo, is_stripped=False)])
    assert (await ask(app, "/auth/token")).body == b"/token"
    assert (await ask(app, "/api/v1/tags", method="GET")).body == b"/api/v1/tags"
    assert (await ask(app, "/authority", method="GET")).status == 404
