"""What can a scripted registry answer? Replies, and the ways in which an answer can go wrong on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest

_NO_HEADERS: Mapping[str, str] = {}


class Answer(Protocol):
    """What happens on the connection after a request."""

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Write the answer; true if the connection stays open for another request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A proper HTTP answer. ``Content-Length`` is that of ``body`` unless ``headers`` has another one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0

    def head(self, **extra: str) -> bytes:
        """Status line and headers, the empty line included."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        fields = {"Content-Length": str(len(self.body)), **self.headers, **extra}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send the answer whole."""
        await asyncio.sleep(self.delay_seconds)
        has_body = not is_head and self.status not in (204, 304)
        writer.write(self.head() + (self.body if has_body else b""))
        await writer.drain()
        return self.headers.get("Connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class CloseWithoutAnswer:
    """The connection ends in good order, but nothing was said."""

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Say nothing."""
        del writer, is_head
        return False


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST), after the head of ``after`` if that is given."""

    after: Reply | None = None

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send the head, if any, then reset."""
        del is_head
        if self.after is not None:
            writer.write(self.after.head())
            await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False


@dataclass(frozen=True, slots=True)
class Truncated:
    """``reply`` breaks off after ``sent_bytes`` of its body, less than its ``Content-Length`` promised."""

    reply: Reply
    sent_bytes: int

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send a part and close."""
        del is_head
        writer.write(self.reply.head() + self.reply.body[: self.sent_bytes])
        await writer.drain()
        return False


@dataclass(frozen=True, slots=True)
class EndlessBody:
    """A body without a length that never ends; it stops when the client goes away."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunk: bytes = b" " * 65536

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send until the client has had enough."""
        del is_head
        reply = Reply(self.status, headers={**self.headers, "Content-Length": "", "Connection": "close"})
        writer.write(reply.head())
        while True:
            writer.write(self.chunk)
            await writer.drain()
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class SlowDrip:
    """``reply`` arrives in pieces of ``piece_bytes`` with a pause before each, head included."""

    reply: Reply
    piece_bytes: int = 1
    pause_seconds: float = 0.05

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send it little by little."""
        whole = self.reply.head() + (b"" if is_head else self.reply.body)
        for start in range(0, len(whole), self.piece_bytes):
            await asyncio.sleep(self.pause_seconds)
            writer.write(whole[start : start + self.piece_bytes])
            await writer.drain()
        return True


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no HTTP answer."""

    content: bytes = b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n"

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Send the bytes and close."""
        del is_head
        writer.write(self.content)
        await writer.drain()
        return False


@dataclass(frozen=True, slots=True)
class Silence:
    """The request is read and never answered; the connection stays open for ``seconds``."""

    seconds: float = 30.0

    async def perform(self, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        """Wait."""
        del writer, is_head
        await asyncio.sleep(self.seconds)
        return False


def json_reply(document: object, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
    """A JSON document."""
    body = json.dumps(document).encode()
    return Reply(status, body, {"Content-Type": "application/json; charset=utf-8", **headers})


def manifest_reply(payload: bytes, media_type: str = media_types.OCI_MANIFEST, *, digest: str = "") -> Reply:
    """A manifest with its digest in the headers, or with ``digest`` in its place (a lie)."""
    claimed = digest or str(Digest.of(payload))
    headers = {"Content-Type": media_type, "Docker-Content-Digest": claimed, "Etag": f'"{claimed}"'}
    return Reply(200, payload, headers)


def not_modified_reply() -> Reply:
    """304, as Distribution answers a manifest: no length, no type, no digest."""
    return Reply(304, headers={"Content-Length": ""})


def blob_reply(content: bytes) -> Reply:
    """A blob."""
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": str(Digest.of(content))}
    return Reply(200, content, headers)


def error_reply(
    status: int,
    code: str = "UNKNOWN",
    message: str = "",
    detail: object = None,
    *,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> Reply:
    """An error document of the distribution specification with one error."""
    error: dict[str, object] = {"code": code, "message": message or code.lower().replace("_", " ")}
    if detail is not None:
        error["detail"] = detail
    return json_reply({"errors": [error]}, status=status, headers=headers)


def challenge_reply(*challenges: str) -> Reply:
    """401 with one ``WWW-Authenticate`` header, several challenges joined by commas."""
    return error_reply(401, "UNAUTHORIZED", headers={"WWW-Authenticate": ", ".join(challenges)})


def token_reply(token: str, *, field_name: str = "token", expires_in: int | None = 300) -> Reply:
    """A token server's answer; ``expires_in`` ``None`` leaves the field out (60 s by the specification)."""
    document: dict[str, object] = {field_name: token}
    if expires_in is not None:
        document["expires_in"] = expires_in
    return json_reply(document)


def catalog_reply(names: Sequence[str], *, next_target: str = "") -> Reply:
    """A page of the catalog; ``next_target`` is what its ``Link`` header points to."""
    return json_reply({"repositories": list(names)}, headers=dict(_links(next_target)))


def tags_reply(name: str, tags: Sequence[str] | None, *, next_target: str = "") -> Reply:
    """A page of tags; ``None`` is the ``null`` of a repository that has lost all its tags."""
    return json_reply({"name": name, "tags": None if tags is None else list(tags)}, headers=dict(_links(next_target)))


def _links(next_target: str) -> Iterator[tuple[str, str]]:
    if next_target:
        yield "Link", f'<{next_target}>; rel="next"'
