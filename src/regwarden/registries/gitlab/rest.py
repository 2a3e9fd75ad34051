"""What does GitLab's API answer? REST v4 and GraphQL below one address, with one token, within the registry's limits.

Source: GitLab REST API and GraphQL API. No address that an answer names is ever asked.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from yarl import URL

from regwarden.errors import InputError, RegistryError
from regwarden.registries.client.credentials import Basic, Credentials
from regwarden.registries.client.diagnostics import Answer
from regwarden.registries.client.transport import Call, Transport
from regwarden.registries.gitlab.api_refusals import api_error, in_gitlabs_name, login_error
from regwarden.registries.gitlab.login import Login
from regwarden.registries.gitlab.pages import ListReader, next_cursor, next_number, unreadable

T = TypeVar("T")
Query = Mapping[str, str | int]

_JOB_USER: Final = "gitlab-ci-token"
_PAGE_SIZE: Final = 100
_MOVED: Final = re.compile(r"/api/v4/projects/([0-9]{1,18})(?=[/?]|$)")
_OF_PROJECT: Final = re.compile(r"projects/[^/]+")
_PATH: Final = re.compile(r"[A-Za-z0-9_.~%:-]+(?:/[A-Za-z0-9_.~%:-]+)*")
_DONE: Final = frozenset({200, 202, 204})
_MAX_GRAPH_ERRORS: Final = 10


class GraphAnswer(NamedTuple):
    """``found`` is GitLab's ``data``, ``None`` without any; ``errors`` are its words, which may come beside it."""

    found: Mapping[str, Any] | None
    errors: tuple[str, ...]


class _Graph(msgspec.Struct):
    found: dict[str, Any] | None = msgspec.field(default=None, name="data")
    errors: list[Any] = []


_decode_graph = msgspec.json.Decoder(_Graph).decode


class GitLabApi:
    """Questions to one GitLab. ``token`` is one for the API; without it the registry's ``credentials`` serve.

    ``login`` is that of the registry's tokens: a 401 here is remembered there too, if it was the same secret and
    nothing shows that it is good. Paths are below ``/api/v4/``, without a slash before them, and already ``quoted``.
    """

    def __init__(
        self, gitlab_url: str, credentials: Credentials, transport: Transport, *, token: str = "", login: Login
    ) -> None:
        self._url = gitlab_url.rstrip("/")
        self._transport = transport
        self._registry_login = login
        self._shares_login = not token
        self._own_login = Login()
        self._authorization: str | None = None
        self._headers: dict[str, str] = {"Accept": "application/json"}
        if token:
            transport.redact.hide(token)
            self._authorization = f"Bearer {token}"
        elif isinstance(credentials, Basic) and credentials.username == _JOB_USER:
            self._headers["JOB-TOKEN"] = credentials.password
        elif isinstance(credentials, Basic):
            self._authorization = f"Bearer {credentials.password}"
        self.has_token = bool(token) or isinstance(credentials, Basic)

    async def get(self, path: str, shape: type[T], query: Query | None = None, *, subject: str) -> T:
        """What is at ``path``, decoded as ``shape``; ``subject`` names it for people.

        Raises ``RegistryError`` with one of the codes of ``api_error``, ``login-failed``, or what the transport raises.
        A project that moved is found under its number.
        """
        answer = await self._read(path, query or {}, subject)
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise unreadable(subject) from None

    async def pages(
        self, path: str, shape: type[T], query: Query | None = None, *, subject: str
    ) -> AsyncIterator[tuple[T, ...]]:
        """The rows of a list, page by page by number, each row decoded as ``shape``. Raises as ``get``.

        Rows may come twice, or be missed, where the list changes meanwhile: drop doubles by their id.
        """
        reader, number = ListReader(shape, subject), 1
        wanted: dict[str, str | int] = {"per_page": _PAGE_SIZE, **(query or {})}
        while True:
            answer = await self._read(path, {**wanted, "page": number}, subject)
            yield (rows := reader.read(answer))
            following = next_number(answer, number, is_full=len(rows) >= int(wanted["per_page"]))
            if following is None:
                return
            reader.check_progress()
            number = following

    async def keyset_pages(
        self, path: str, shape: type[T], query: Query | None = None, *, subject: str
    ) -> AsyncIterator[tuple[T, ...]]:
        """The same by cursor, which misses nothing; ``query`` has ``pagination=keyset`` and what belongs to it."""
        reader = ListReader(shape, subject)
        wanted: dict[str, str | int] = {"per_page": _PAGE_SIZE, **(query or {})}
        while True:
            answer = await self._read(path, wanted, subject)
            yield (rows := reader.read(answer))
            cursor = next_cursor(answer, is_full=len(rows) >= int(wanted["per_page"]))
            if cursor is None:
                return
            reader.check_progress()
            wanted |= cursor

    async def delete(self, path: str, *, subject: str) -> int:
        """Delete what is at ``path``: 200, 202 or 204. Never repeated if it may have been done; raises as ``get``."""
        call = self._call("DELETE", self._address(f"api/v4/{_checked(path)}"), subject, is_repeatable=False)
        answer = await self._send(call)
        if answer.status in _DONE:
            return answer.status
        raise self._error(answer, subject)

    async def graphql(
        self, operation: str, document: str, variables: Mapping[str, object], *, subject: str
    ) -> GraphAnswer:
        """The answer to the query ``operation`` of a GraphQL ``document``, which changes nothing. Raises as ``get``."""
        payload = {"operationName": operation, "query": document, "variables": variables}
        answer = await self._send(
            self._call("POST", self._address("api/graphql"), subject, body=msgspec.json.encode(payload))
        )
        if answer.status != 200:
            raise self._error(answer, subject)
        try:
            graph = _decode_graph(answer.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise unreadable(subject) from None
        return GraphAnswer(graph.found, tuple(self._graph_words(error) for error in graph.errors[:_MAX_GRAPH_ERRORS]))

    def _graph_words(self, error: object) -> str:
        message = error.get("message") if isinstance(error, dict) else error
        return self._transport.redact.clean(str(message))

    async def _read(self, path: str, query: Query, subject: str) -> Answer:
        """The answer 200 to a GET; follows a project that moved, by its number and once."""
        texts = {name: str(value) for name, value in query.items()}
        answer = await self._get(path, texts, subject)
        moved = _MOVED.search(answer.headers.get("Location", "")) if answer.status == 301 else None
        if moved is not None and _OF_PROJECT.match(path):
            answer = await self._get(_OF_PROJECT.sub(f"projects/{moved[1]}", path, count=1), texts, subject)
        if answer.status != 200:
            raise self._error(answer, subject)
        return answer

    async def _get(self, path: str, query: Mapping[str, str], subject: str) -> Answer:
        url = self._address(f"api/v4/{_checked(path)}")
        return await self._send(self._call("GET", url.with_query(query) if query else url, subject))

    def _address(self, path: str) -> URL:
        return URL(f"{self._url}/{path}", encoded=True)

    def _call(
        self, method: str, url: URL, subject: str, *, body: bytes | None = None, is_repeatable: bool = True
    ) -> Call:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        limit = self._transport.limits.page_bytes
        return Call(method, url, subject, limit, headers=headers, body=body, is_repeatable=is_repeatable)

    async def _send(self, call: Call) -> Answer:
        self._registry_login.check()
        self._own_login.check()
        try:
            answer = await self._transport.exchange(call, self._authorization)
        except RegistryError as error:
            if error.temporary and error.status is not None:
                raise in_gitlabs_name(error, call.subject) from None
            raise
        if answer.status == 401 and self.has_token:
            raise self._remember_failure(answer, call.subject)
        return answer

    def _remember_failure(self, answer: Answer, subject: str) -> RegistryError:
        error = self._own_login.fail(login_error(answer, subject, self._transport.redact))
        if self._shares_login and not self._registry_login.was_accepted:
            self._registry_login.fail(error, is_shared=False)
        return error

    def _error(self, answer: Answer, subject: str) -> RegistryError:
        return api_error(answer, subject, self._transport.redact, has_token=self.has_token)


def quoted(text: str) -> str:
    """One segment of a path, such as a project's full path or a tag: every slash is encoded.

    Raises ``InputError`` for what could leave its place in the path.
    """
    if not text or text in {".", ".."} or not text.isprintable():
        raise InputError(f"{text[:160]!r} cannot stand in an address of GitLab's API", code="bad-reference")
    return quote(text, safe="")


def _checked(path: str) -> str:
    if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise InputError(f"{path[:160]!r} is no path of GitLab's API", code="bad-reference")
    return path
