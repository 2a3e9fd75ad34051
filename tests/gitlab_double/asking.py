"""How do tests ask the registry of a double with a token for just what they need? Plain requests, no client of ours."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple

from tests.gitlab_double.running import GitLab


class Answer(NamedTuple):
    """``document`` is the body, decoded where it is JSON."""

    status: int
    headers: Message
    document: Any

    @property
    def code(self) -> str:
        """That of the first error."""
        return str(self.document["errors"][0]["code"])


def fetch_token(gitlab: GitLab, *scopes: str, name: str = "admin") -> str:
    """A registry token for these scopes, by the credential ``name`` of the scenario."""
    query = "".join(f"&scope={scope}" for scope in scopes)
    login = base64.b64encode(f"x:{gitlab.tokens[name]}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    address = f"{gitlab.url}/jwt/auth?service=container_registry{query}"
    return str(send("GET", address, headers=headers).document["token"])


def ask(gitlab: GitLab, path: str, token: str = "", *, method: str = "GET", body: bytes | None = None) -> Answer:
    """Ask the registry for what is below its address."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return send(method, gitlab.registry_url + path, headers=headers, body=body)


def send(method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
    """One request; redirects are not followed."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        with _OPENER.open(request, timeout=20) as answer:
            return Answer(answer.status, answer.headers, _decode(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, _decode(error.read()))


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
