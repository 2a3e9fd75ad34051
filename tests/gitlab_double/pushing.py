"""How does content come into the registry without anybody seeing? Pushes with tokens of the issuer's own key."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from urllib.parse import parse_qsl, urlsplit

from regwarden.testing.content import Blob, BuiltManifest
from tests.gitlab_double import keys
from tests.gitlab_double.recording import Recorded, grouped
from tests.gitlab_double.storage import Storage

INTERNAL_AGENT = "gitlab-double"
ACCESS_LINE = re.compile(r'^\S+ - \S+ \[[^]]*\] "(\S+) (\S+) HTTP/[\d.]+" (\d+) \S+ "[^"]*" "([^"]*)"')


def internal_token(repository: str, *, service: str = "container_registry", issuer: str = "gitlab-issuer") -> str:
    """A token for everything in one repository, an hour long."""
    now = int(time.time())
    access = [{"type": "repository", "name": repository, "actions": ["pull", "push", "delete"]}]
    times = {"iat": now, "nbf": now - 5, "exp": now + 3600}
    return keys.sign({"access": access, "aud": service, "iss": issuer, "sub": "root", **times})


def push(url: str, storage: Storage, repository: str, built: BuiltManifest, tag: str = "") -> str:
    """Push blobs, children and manifest to the registry at ``url``; returns the manifest's digest."""
    headers = {"Authorization": f"Bearer {internal_token(repository)}", "User-Agent": INTERNAL_AGENT}
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        _push(connection, headers, storage, repository=repository, built=built, tag=tag)
    return str(built.digest)


def _push(
    connection: http.client.HTTPConnection,
    headers: dict[str, str],
    storage: Storage,
    *,
    repository: str,
    built: BuiltManifest,
    tag: str,
) -> None:
    for child in built.children:
        _push(connection, headers, storage, repository=repository, built=child, tag="")
    for blob in built.blobs:
        if blob.content is None:
            storage.write_hollow_blob(repository, str(blob.digest), blob.size_bytes)
        elif not storage.has_blob(repository, str(blob.digest)):
            _push_blob(connection, headers, repository, blob)
    path = f"/v2/{repository}/manifests/{tag or built.digest}"
    _ask(connection, "PUT", path, built.payload, headers={**headers, "Content-Type": built.media_type})
    storage.touch(repository, tag)


def _push_blob(connection: http.client.HTTPConnection, headers: dict[str, str], repository: str, blob: Blob) -> None:
    location = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"", headers=headers)
    parts = urlsplit(location)
    target = f"{parts.path}?{parts.query}&digest={blob.digest}"
    _ask(
        connection, "PUT", target, blob.content or b"", headers={**headers, "Content-Type": "application/octet-stream"}
    )


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, *, headers: dict[str, str]
) -> str:
    """Send it; returns ``Location``. Raises ``AssertionError`` if it is not accepted."""
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status in (201, 202), f"{method} {path}: {answer.status} {text[:500]!r}"
    return answer.headers.get("Location", "")


def read_access_log(lines: Iterable[str]) -> Iterator[Recorded]:
    """The requests in the real registry's access log, without those that the double itself sent."""
    for line in lines:
        found = ACCESS_LINE.match(line)
        if found is not None and found[4] != INTERNAL_AGENT:
            path, _, query = found[2].partition("?")
            parameters = grouped(parse_qsl(query, keep_blank_values=True))
            yield Recorded("registry", found[1], path, parameters, {"user-agent": found[4]}, int(found[3]))
