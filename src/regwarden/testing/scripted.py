"""A registry that answers by script and fails the test when anything else is asked: for faults no real server gives."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from regwarden.testing.scripted_replies import Answer, Reply
from regwarden.testing.threads import running_in_thread

# 400 is answered to what is not in the script: no client tries that again.
_UNSCRIPTED: Final = Reply(400, b"this request is not in the script\n", {"Content-Type": "text/plain"})
_MAX_HEAD_BYTES: Final = 64 * 1024

HeaderRule = str | None | Callable[[str | None], bool]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came; header names are in lower case, repeated headers are joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(slots=True)
class Exchange:
    """An expected request and the answers to its first, second, … occurrence.

    ``target`` is a path with query (the order of parameters does not matter) or a pattern for all of it.
    ``headers`` maps a name to the value it must have, ``None`` (must be absent) or a predicate. With
    ``is_repeated`` the last answer is given again and again; with ``is_optional`` no request need come.
    """

    method: str
    target: str | re.Pattern[str]
    answers: tuple[Answer, ...]
    headers: Mapping[str, HeaderRule] = field(default_factory=dict)
    is_repeated: bool = False
    is_optional: bool = False
    use_count: int = 0

    def matches(self, request: ReceivedRequest) -> bool:
        """Whether this is the request that was expected."""
        if request.method != self.method or not _is_same_target(self.target, request.target):
            return False
        return all(_obeys(rule, request.headers.get(name.lower())) for name, rule in self.headers.items())

    @property
    def is_exhausted(self) -> bool:
        """Whether all its answers were given and none may be repeated."""
        return self.use_count >= len(self.answers) and not self.is_repeated

    @property
    def is_satisfied(self) -> bool:
        """Whether as many requests came as had to come."""
        return self.is_optional or self.use_count >= len(self.answers)

    def take(self) -> Answer:
        """The answer to the next request."""
        answer = self.answers[min(self.use_count, len(self.answers) - 1)]
        self.use_count += 1
        return answer

    def __str__(self) -> str:
        target = self.target if isinstance(self.target, str) else f"~{self.target.pattern}"
        return f"{self.method} {target} (came {self.use_count} of {len(self.answers)} times)"


class ScriptedRegistry:
    """An async context manager over raw HTTP/1.1; leaving it raises ``AssertionError`` if the script was not kept.

    Unordered (the default): a request takes the next answer of the first exchange that matches and has answers left.
    Ordered: requests must come exactly in the order of ``expect``.
    """

    def __init__(self, *, is_ordered: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[ReceivedRequest] = []
        self.unexpected: list[ReceivedRequest] = []
        self.url = ""
        self._exchanges: list[Exchange] = []
        self._is_ordered = is_ordered
        self._tls = tls
        self._connections: set[asyncio.Task[None]] = set()

    def expect(
        self,
        method: str,
        target: str | re.Pattern[str],
        *answers: Answer,
        headers: Mapping[str, HeaderRule] | None = None,
        is_repeated: bool = False,
        is_optional: bool = False,
    ) -> Exchange:
        """Add an exchange with one or more answers to the script."""
        if not answers:
            message = "an exchange needs an answer"
            raise ValueError(message)
        exchange = Exchange(method, target, answers, headers or {}, is_repeated, is_optional)
        self._exchanges.append(exchange)
        return exchange

    def verify(self) -> None:
        """Raise ``AssertionError`` that lists what came unexpectedly and what did not come."""
        missing = [exchange for exchange in self._exchanges if not exchange.is_satisfied]
        if not self.unexpected and not missing:
            return
        lines = ["the script was not kept"]
        lines += [f"  not in the script: {request}" for request in self.unexpected]
        lines += [f"  did not come: {exchange}" for exchange in missing]
        lines += ["  requests in order:", *(f"    {request}" for request in self.requests)]
        raise AssertionError("\n".join(lines))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._tls, limit=_MAX_HEAD_BYTES)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        if kind is None:
            self.verify()

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if not await self._choose(request).perform(writer, is_head=request.method == "HEAD"):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _choose(self, request: ReceivedRequest) -> Answer:
        for exchange in self._exchanges:
            if self._is_ordered and exchange.is_exhausted:
                continue
            if not exchange.is_exhausted and exchange.matches(request):
                return exchange.take()
            if self._is_ordered and not exchange.is_satisfied:
                break
        self.unexpected.append(request)
        return _UNSCRIPTED


def running_scripted_registry(
    script: Callable[[ScriptedRegistry], None], *, is_ordered: bool = False, tls: ssl.SSLContext | None = None
) -> AbstractContextManager[ScriptedRegistry]:
    """A scripted registry in a thread, for synchronous tests; ``script`` calls ``expect`` before it starts."""

    def make() -> ScriptedRegistry:
        registry = ScriptedRegistry(is_ordered=is_ordered, tls=tls)
        script(registry)
        return registry

    return running_in_thread(make)


async def _read_request(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    """The next request of a connection; ``None`` when the client has closed it."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(method, target, headers, body)


def _is_same_target(expected: str | re.Pattern[str], received: str) -> bool:
    if isinstance(expected, re.Pattern):
        return expected.fullmatch(received) is not None
    ours, theirs = urlsplit(expected), urlsplit(received)
    return ours.path == theirs.path and sorted(parse_qsl(ours.query, keep_blank_values=True)) == sorted(
        parse_qsl(theirs.query, keep_blank_values=True)
    )


def _obeys(rule: HeaderRule, value: str | None) -> bool:
    return rule(value) if callable(rule) else rule == value
