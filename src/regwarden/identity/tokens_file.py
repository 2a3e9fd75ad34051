"""Which tokens stand in a file, and has it changed? Read again when it does, also when another file takes its place.

Its form is that of imagelist's file, with what a token may do beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from watchfiles import awatch

from regwarden.core.access import Grant
from regwarden.core.grants import parse_grants
from regwarden.core.text import printable
from regwarden.errors import InputError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_NAME_CHARACTERS: Final = 200
LOOK_AGAIN_SECONDS: Final = 5.0

_FIELDS: Final = frozenset({"name", "token", "is_disabled", "description", "grants", "role"})
# As YAML 1.1 writes them, which Go's parsers read.
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n", "", "null", "~"})

log = structlog.get_logger("regwarden.auth")


@dataclass(frozen=True, slots=True)
class FileToken:
    """A token of the file that is not disabled. Without grants it may do nothing, except where no role is asked for."""

    name: str
    token_sha256: bytes = field(repr=False)
    grants: tuple[Grant, ...] = ()


class TokensFile:
    """The tokens of one file. Mistakes keep what was read last, and are logged; without the file there are none."""

    def __init__(self, path: Path, *, needs_roles: bool = True) -> None:
        """``needs_roles``: a token without a role is good for nothing here, and that is logged.

        Otherwise it is imagelist's own file, and is read as imagelist read it.
        """
        self._path = path
        self._needs_roles = needs_roles
        self._tokens: tuple[FileToken, ...] = ()
        self._seen: bytes | None = b""
        self._complaint = ""

    def find(self, token: str) -> FileToken | None:
        """The token with this text. It takes as long for any text, whatever it resembles."""
        wanted = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = None
        for one in self._tokens:
            if hmac.compare_digest(one.token_sha256, wanted):
                found = one
        return found

    def reload(self) -> None:
        """Use what the file says now."""
        try:
            content = _read(self._path)
            if content == self._seen:
                return
            parse = parse_tokens_file if self._needs_roles else parse_imagelist_tokens
            tokens = () if content is None else parse(content)
        except (InputError, OSError) as error:
            self._complain(str(error))
            return
        self._seen, self._tokens, self._complaint = content, tokens, ""
        if content is None:
            log.warning("the tokens file is missing: it has no tokens", file=str(self._path))
            return
        log.info("the tokens file was read", file=str(self._path), token_count=len(tokens))
        for one in tokens:
            if not one.grants and self._needs_roles:
                log.warning("a token of the file has no role", file=str(self._path), name=one.name)

    async def watch(self) -> None:
        """Read the file again whenever something happens in its directory, until cancelled.

        The directory, for a replaced file is another one, and a ConfigMap is replaced by renaming a link beside it.
        Every few seconds it is also looked at in any case: not every file system tells of changes.
        """
        while True:
            await asyncio.to_thread(self.reload)
            with suppress(OSError):  # the directory may be missing, or not be ours to watch
                await self._wait()
                continue
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _wait(self) -> None:
        changes = awatch(
            self._path.parent,
            watch_filter=None,
            recursive=False,
            debounce=200,
            step=50,
            rust_timeout=int(LOOK_AGAIN_SECONDS * 1000),
            yield_on_timeout=True,
        )
        async for _ in changes:
            await asyncio.to_thread(self.reload)

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            log.error(
                "the tokens file cannot be used; the tokens read before stay", file=str(self._path), reason=reason
            )


def parse_tokens_file(content: bytes) -> tuple[FileToken, ...]:
    """The tokens of a file, without those that are disabled.

    Raises ``InputError`` (``bad-tokens-file``) that repeats no token.
    """
    try:
        document = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        # The parser's own message quotes the line, with the token in it.
        raise _bad("it is not YAML") from None
    if document is None:
        return ()
    if not isinstance(document, dict) or set(document) != {"tokens"}:
        raise _bad("it does not begin with tokens: and nothing else")
    written = document["tokens"] or []
    if not isinstance(written, list):
        raise _bad("tokens is not a list")
    tokens = [one for number, entry in enumerate(written, 1) for one in _parse_entry(entry, number)]
    return tuple(tokens)


def parse_imagelist_tokens(content: bytes) -> tuple[FileToken, ...]:
    """The tokens of imagelist's own file: only ``token`` and ``is_disabled`` matter, ``name`` is for the audit.

    Whatever else stands there is passed over, and so are entries without a token. A file without ``tokens`` may be
    half written. Raises ``InputError`` (``bad-tokens-file``) that repeats no token.
    """
    try:
        # Every value as it is written: a token of digits is a text too.
        document = yaml.load(content.decode("utf-8"), yaml.BaseLoader)  # noqa: S506 -- it makes texts, lists and dicts
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise _bad("it is not YAML") from None
    written = document.get("tokens") if isinstance(document, dict) else None
    if not isinstance(written, list):
        raise _bad("it has no list of tokens")
    return tuple(one for number, entry in enumerate(written, 1) for one in _parse_imagelist_entry(entry, number))


def _parse_imagelist_entry(entry: Any, number: int) -> Iterator[FileToken]:
    if not isinstance(entry, dict):
        raise _bad(f"token {number} is not an object")
    name, token, disabled = (entry.get(field, "") for field in ("name", "token", "is_disabled"))
    if not isinstance(token, str) or not isinstance(disabled, str) or disabled.lower() not in _TRUE | _FALSE:
        raise _bad(f"token {number} has no text for token, or is_disabled is neither true nor false")
    shown = printable(name, MAX_NAME_CHARACTERS).strip() if isinstance(name, str) else ""
    if token and disabled.lower() in _FALSE:
        yield FileToken(shown or f"token {number}", hashlib.sha256(token.encode()).digest())


def _parse_entry(entry: Any, number: int) -> Iterator[FileToken]:
    if not isinstance(entry, dict):
        raise _bad(f"token {number} is not an object")
    if unknown := sorted(str(key)[:40] for key in entry if key not in _FIELDS):
        raise _bad(f"token {number} has an unknown field {unknown[0]!r}")
    name, token, is_disabled = entry.get("name", f"token {number}"), entry.get("token"), entry.get("is_disabled")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise _bad(f"the name of token {number} is not a text of at most {MAX_NAME_CHARACTERS} characters")
    if not isinstance(token, str) or not token or not token.isprintable():
        raise _bad(f"the token of {name} is not a text; put it into quotes")
    if not isinstance(is_disabled, bool | None):
        raise _bad(f"is_disabled of {name} is neither true nor false")
    grants = _parse_grants(entry, name)
    if not is_disabled:
        yield FileToken(name, hashlib.sha256(token.encode()).digest(), grants)


def _parse_grants(entry: dict[str, Any], name: str) -> tuple[Grant, ...]:
    if "grants" in entry and "role" in entry:
        raise _bad(f"{name} has role and grants; keep one of them")
    try:
        if "role" in entry:
            return parse_grants([{"role": entry["role"]}])
        return parse_grants(entry.get("grants") or [])
    except InputError as error:
        raise _bad(f"{name}: {error.message}") from None


def _read(path: Path) -> bytes | None:
    """The content of the file; ``None`` if there is none. Raises ``OSError`` and ``InputError``."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) > MAX_FILE_BYTES:
        raise _bad(f"it is larger than {MAX_FILE_BYTES} bytes")
    return content


def _bad(message: str) -> InputError:
    hint = 'Write tokens: [{name: ci, token: "…", role: viewer}].'
    return InputError(f"the tokens file cannot be used: {message}", hint=hint, code="bad-tokens-file")
