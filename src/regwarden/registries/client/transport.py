"""How does one request reach a host? Sends, reads with caps and deadlines, retries, counts; knows no authentication."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import stamina
import stamina.instrumentation
import structlog
from aiohttp.resolver import DefaultResolver
from yarl import URL

from regwarden import clock
from regwarden.errors import RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import Traffic
from regwarden.registries.client.addresses import GuardedResolver, check_literal, is_loopback_host
from regwarden.registries.client.credentials import Basic, IdentityToken
from regwarden.registries.client.diagnostics import Answer, Redactor, error_for
from regwarden.registries.client.failures import explain
from regwarden.registries.client.limits import Gate, Limits
from regwarden.registries.client.request_log import log_request
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.tls import TlsContexts, build_tls

_RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
# 500: a tag being moved on Distribution 2.x heals at once, a blob asked for as manifest never does.
_FEWER_RETRIES: Final = {"timeout": 2, "connect": 3, "500": 3}
_EARLIEST_MOMENT: Final = 1_000_000_000.0  # smaller numbers are no moments since 1970, but seconds to wait
_NO_HEADERS: Final[Mapping[str, str]] = {}


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log that a request is tried again, where a log was set up: without one structlog would write to stdout."""
    if structlog.is_configured():
        seconds = round(details.wait_for, 2)
        structlog.get_logger("regwarden.registries").warning(
            "trying again", cause=str(details.caused_by), attempt=details.retry_num, wait_seconds=seconds
        )


stamina.instrumentation.set_on_retry_hooks([_log_retry])


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``subject`` names it for people, ``scope`` is the token scope it needs.

    ``reset_retries`` bounds the retries after a connection that closed without an answer, where closing may be
    the server's reaction to this very request. With ``is_repeatable`` off nothing is sent a second time that may
    have been done: neither after a 5xx nor once the request may have reached the server; 429 is always waited for.
    With ``counts_only`` the body is counted up to ``max_bytes`` and thrown away; it may break off.
    """

    method: str
    url: URL
    subject: str
    max_bytes: int
    scope: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    reset_retries: int | None = None
    is_repeatable: bool = True
    counts_only: bool = False


class _Retryable(Exception):  # an inner signal, never seen outside
    def __init__(self, error: RegistryError, kind: str, wait_seconds: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.kind = kind
        self.wait_seconds = wait_seconds


class Transport:
    """The connections of one registry, made at the first request, within its limits."""

    def __init__(self, settings: ClientSettings, limits: Limits) -> None:
        self.traffic = Traffic()
        self.limits = limits
        self.base = URL(settings.url)
        self._settings = settings
        self._gate = Gate(limits)
        self._session: aiohttp.ClientSession | None = None
        self._tls: TlsContexts | None = None
        self._has_answered = False
        self._last_date = ""
        credentials = settings.credentials
        secrets = (credentials.password,) if isinstance(credentials, Basic) else ()
        self.redact = Redactor((credentials.token,) if isinstance(credentials, IdentityToken) else secrets)

    async def exchange(
        self,
        call: Call,
        authorization: str | None = None,
        middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (),
    ) -> Answer:
        """Send ``call`` until there is an answer that is worth having; returns it whatever its status.

        Raises ``RegistryUnreachable``, ``RegistryProtocolError`` (too large, not HTTP) and ``RegistryError`` with
        ``temporary`` set for 429 and 5xx that outlast the retries, or that must not be retried.
        """
        try:
            return await self._attempt(call, authorization, middlewares)
        except _Retryable as first:
            failure = first
        return await self._retry(call, authorization, middlewares, failure)

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _retry(
        self,
        call: Call,
        authorization: str | None,
        middlewares: tuple[aiohttp.ClientMiddlewareType, ...],
        first: _Retryable,
    ) -> Answer:
        counts: Counter[str] = Counter()
        context = stamina.retry_context(
            on=lambda error: self._next_wait(error, call, counts),
            attempts=self.limits.retries + 1,
            timeout=None,
            wait_initial=0.1,
            wait_max=min(10.0, self.limits.retry_wait_seconds),
            wait_jitter=0.2,
        )
        try:
            async for attempt in context:
                with attempt:
                    if attempt.num == 1:
                        raise first  # the one that happened before this loop, so that its wait counts
                    self.traffic.retries += 1
                    return await self._attempt(call, authorization, middlewares)
        except _Retryable as last:
            raise last.error from None
        raise first.error

    def _next_wait(self, error: Exception, call: Call, counts: Counter[str]) -> bool | float:
        if not isinstance(error, _Retryable):
            return False
        counts[error.kind] += 1
        allowed = _FEWER_RETRIES.get(error.kind, self.limits.retries)
        if error.kind == "reset" and call.reset_retries is not None:
            allowed = call.reset_retries
        if counts[error.kind] > allowed:
            return False
        return True if error.wait_seconds is None else error.wait_seconds

    async def _attempt(
        self, call: Call, authorization: str | None, middlewares: tuple[aiohttp.ClientMiddlewareType, ...]
    ) -> Answer:
        session = self._session or self._open()
        headers = dict(call.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        options: dict[str, Any] = {"middlewares": middlewares} if middlewares else {}
        if call.form is not None:
            options["data"] = call.form
        elif call.body is not None:
            options["data"] = call.body
        if call.url.scheme == "https":
            options["ssl"] = self._tls_for(call.url)
        async with self._gate:
            self.traffic.requests += 1
            started_at, status = clock.monotonic(), 0
            try:
                response = await session.request(
                    call.method, call.url, headers=headers, allow_redirects=False, **options
                )
                status = response.status
                try:
                    answer = await self._read(response, call)
                finally:
                    response.release()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                failure = explain(error, call.url, call.subject)
                # A host that never answered is more likely misspelt than restarting: say so at once.
                is_first_contact = not self._has_answered and failure.kind != "reset"
                is_perhaps_done = not call.is_repeatable and failure.kind != "connect"
                if failure.kind == "setup" or is_first_contact or is_perhaps_done:
                    raise failure.error from None
                raise _Retryable(failure.error, failure.kind) from None
            finally:
                self._log(call, status, clock.monotonic() - started_at)
            await self._gate.account(answer.received_bytes or len(answer.body))
        return self._judge(answer, call)

    def _log(self, call: Call, status: int, seconds: float) -> None:
        log_request(call.method, call.url, status, seconds=seconds, subject=call.subject, redact=self.redact)

    async def _read(self, response: aiohttp.ClientResponse, call: Call) -> Answer:
        status, headers = response.status, response.headers
        challenges = tuple(headers.getall("WWW-Authenticate", ())) if status == 401 else ()
        if call.method == "HEAD":
            return Answer(status, headers, b"", challenges)
        if headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
            response.close()
            raise RegistryProtocolError(f"the answer for {call.subject} is compressed although we did not ask for it")
        if status == 416:  # Distribution 2.x announces the whole blob's length here and never sends it
            response.close()
            return Answer(status, headers)
        if call.counts_only and status < 400:
            return Answer(status, headers, received_bytes=await self._count(response, call.max_bytes))
        is_error = status >= 400
        limit = self.limits.error_bytes if is_error else call.max_bytes
        length = response.content_length
        if length is not None and length <= limit:
            body = await response.read()
        else:
            body = await _read_capped(response, limit)
        self.traffic.received_bytes += len(body)
        if len(body) > limit:
            response.close()
            if not is_error:
                message = f"the answer for {call.subject} is larger than the limit of {limit} bytes"
                raise RegistryProtocolError(message, code="registry-too-large")
        return Answer(status, headers, body[:limit], challenges)

    async def _count(self, response: aiohttp.ClientResponse, limit: int) -> int:
        """How many bytes of a body come, up to about ``limit``; the connection of a longer one is ended."""
        count = 0
        try:
            async for part in response.content.iter_any():
                count += len(part)
                if count >= limit:
                    break
        except (aiohttp.ClientPayloadError, aiohttp.ClientOSError):
            pass  # the count says that it broke off
        if not response.content.at_eof():
            response.close()
        self.traffic.received_bytes += count
        return count

    def _judge(self, answer: Answer, call: Call) -> Answer:
        self._has_answered = True
        if (date := answer.headers.get("Date", "")) != self._last_date:
            self._last_date = date
            self._note_skew(date)
        status = answer.status
        if status not in _RETRIED_STATUSES:
            self._gate.relax()
            return answer
        error = error_for(answer, call.subject, self.redact, self._settings.credentials)
        wait_seconds = _retry_after_seconds(answer)
        if status == 429:
            self.traffic.throttled += 1
            if wait_seconds is None:
                wait_seconds = _rate_reset_seconds(answer)
            raise _Retryable(error, "429", self._gate.throttle(wait_seconds))
        if wait_seconds is not None:
            wait_seconds = self._gate.throttle(wait_seconds)
        if not call.is_repeatable:
            raise error
        raise _Retryable(error, str(status), wait_seconds)

    def _note_skew(self, date: str) -> None:
        moment = parse_http_date(date)
        if moment is None:
            return
        skew = moment - clock.now()
        if self.traffic.clock_skew is None or abs(skew) > abs(self.traffic.clock_skew):
            self.traffic.clock_skew = skew

    def _open(self) -> aiohttp.ClientSession:
        if reason := check_literal(self.base, allow_loopback=True):
            raise RegistryUnreachable(f"{self.base.host} is {reason}, which is never connected to")
        host = (self.base.host or "").lower()
        named = {entry.lower().partition(":")[0] for entry in self._settings.token_hosts}
        resolver = GuardedResolver(
            DefaultResolver(), frozenset({host, *named}), loopback_everywhere=is_loopback_host(host)
        )
        connector = aiohttp.TCPConnector(limit=self.limits.connections, resolver=resolver, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=self.limits.request_timeout_seconds, sock_connect=self.limits.connect_timeout_seconds
            ),
        )
        # The library would repeat requests behind our back, outside of budget, rate and counters.
        self._session._retry_connection = False  # noqa: SLF001
        return self._session

    def _tls_for(self, url: URL) -> object:
        if self._tls is None:
            self._tls = build_tls(self._settings)
        return self._tls.own if url.host == self.base.host else self._tls.foreign


async def _read_capped(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            break
    return bytes(body)


def parse_http_date(text: str) -> datetime | None:
    """A moment from a ``Date`` or ``Retry-After`` header (RFC 9110 5.6.7); ``None`` when it cannot be read."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _retry_after_seconds(answer: Answer) -> float | None:
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = parse_http_date(text) if text else None
    if moment is None:
        return None
    return max((moment - _answered_at(answer)).total_seconds(), 0.0)


def _rate_reset_seconds(answer: Answer) -> float | None:
    """Seconds until ``RateLimit-Reset``: GitLab gives a moment (seconds since 1970), drafts of the IETF seconds."""
    text = answer.headers.get("RateLimit-Reset", "").strip()
    if not text.isascii() or not text.isdigit():
        return None
    number = float(text[:12])
    if number < _EARLIEST_MOMENT:
        return number
    return max(number - _answered_at(answer).timestamp(), 0.0)


def _answered_at(answer: Answer) -> datetime:
    """When the answer was given by the server's clock, or else by ours."""
    return parse_http_date(answer.headers.get("Date", "")) or clock.now()
