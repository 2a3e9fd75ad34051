"""What does a registry's refusal mean? HTTP answers become ``RegistryError``s with short diagnostics, free of secrets.

Error bodies: OCI distribution specification, "Error Codes"; of ``detail``, which has any shape, only digests are shown.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
from multidict import CIMultiDict

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.media_types import essence
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryMissing, RegistryProtocolError
from regwarden.registries.client.credentials import Credentials, denial_hint

_MAX_DIAGNOSTICS: Final = 300
_API_VERSION: Final = "Docker-Distribution-Api-Version"
_SECRETS: Final = (
    re.compile(r"(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(
        r"(?i)\b((?:access_|refresh_|identity)?token|password|passwd|secret|sig(?:nature)?|x-amz-[a-z-]+)"
        r"(\"?\s*[=:]\s*\"?)[^\s&\",;]+"
    ),
    re.compile(r"(?i)(https?://)[^/\s@]+@"),
)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*")
_TAGS: Final = re.compile(r"<[^<>]{0,500}>")
_DIGEST: Final = re.compile(r"\b(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\b")
_MISSING_CODES: Final = frozenset(
    {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND", "TAG_UNKNOWN", "REPOSITORY_UNKNOWN"}
)


class _Protection(NamedTuple):
    code: str
    words: str


_PROTECTIONS: Final = {
    "PROTECTED_TAG": _Protection(code="tag-protected", words="a rule protects this tag"),
    "PROTECTED_MANIFEST": _Protection(
        code="manifest-protected", words="a rule protects tags of this repository, so no manifest is deleted"
    ),
    "IMMUTABLE_TAG": _Protection(code="tag-immutable", words="a rule makes this tag immutable"),
}
_PROTECTION_HINT: Final = "It stays as it is; whoever maintains the project can change the rule."


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end (an error's body may be cut short).

    ``received_bytes`` is how much came of a body that was only counted.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=CIMultiDict)
    body: bytes = b""
    challenges: tuple[str, ...] = ()
    received_bytes: int = 0

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case."""
        return essence(self.headers.get("Content-Type", ""))

    @property
    def is_json(self) -> bool:
        """Whether the answer calls itself JSON of any kind."""
        return self.content_type.endswith(("/json", "+json"))


class _Entry(msgspec.Struct):
    code: object = ""
    message: object = ""
    detail: object = None


class _Errors(msgspec.Struct):
    errors: list[_Entry] = []


_decode_errors = msgspec.json.Decoder(_Errors).decode


def error_codes(answer: Answer) -> tuple[str, ...]:
    """The codes of an error body; empty when it is not the distribution API's JSON."""
    return tuple(str(entry.code)[:80] for entry in _entries(answer))


def named_digests(answer: Answer) -> tuple[Digest, ...]:
    """The digests that an error body names as its details, each once; other details are left out."""
    found: dict[Digest, None] = {}
    for entry in _entries(answer):
        detail = entry.detail
        for text in detail.values() if isinstance(detail, dict) else (detail,):
            with contextlib.suppress(InputError):
                if isinstance(text, str):
                    found[Digest.parse(text)] = None
    return tuple(found)


def _find_digests(answer: Answer) -> tuple[str, ...]:
    """The digests anywhere in the details: Distribution 2 gives them alone, Distribution 3 within a sentence."""
    details = [entry.detail for entry in _entries(answer)]
    texts = [text for detail in details for text in (detail.values() if isinstance(detail, dict) else (detail,))]
    found = (match for text in texts if isinstance(text, str) for match in _DIGEST.findall(text))
    return tuple(dict.fromkeys(found))


def says_missing(answer: Answer) -> bool:
    """Whether a 404 comes from a registry and says that the thing itself is not there.

    A proxy's page is not such an answer, nor is a registry's complaint about the Accept header
    (Distribution answers 404 ``MANIFEST_UNKNOWN`` for types that were not asked for).
    """
    if answer.status != 404:
        return False
    entries = _entries(answer)
    if any("accept header" in str(entry.message).lower() for entry in entries):
        return False
    return any(str(entry.code) in _MISSING_CODES for entry in entries)


def head_says_missing(answer: Answer) -> bool:
    """Whether a bodiless 404 carries the mark of a registry: a gateway's 404 may be JSON, but knows no API version."""
    if answer.status != 404 or _API_VERSION not in answer.headers:
        return False
    return answer.content_type not in {"text/html", "text/plain"}


def looks_like_registry(answer: Answer) -> bool:
    """Whether the answer to ``GET /v2/`` can be a registry's."""
    if answer.headers.get(_API_VERSION, "").startswith("registry/2"):
        return True
    return answer.content_type != "text/html" and (answer.is_json or not answer.body.strip())


def protection_error(answer: Answer, subject: str, redact: Redactor) -> RegistryDenied | None:
    """The error for a 401 or 403 by which a registry says that a rule protects something; ``None`` for all others.

    GitLab's registry answers 401 there, which has nothing to do with the token.
    """
    if answer.status not in {401, 403}:
        return None
    found = _PROTECTIONS.get(next(iter(error_codes(answer)), ""))
    if found is None:
        return None
    return RegistryDenied(
        f"{found.words}: the registry refuses {subject} ({answer.status})",
        hint=_PROTECTION_HINT,
        code=found.code,
        status=answer.status,
        diagnostics=redact.diagnose(answer),
    )


def error_for(answer: Answer, subject: str, redact: Redactor, credentials: Credentials) -> RegistryError:
    """The error for an answer that is not a success; ``subject`` names what was asked (``the tags of a/b``)."""
    status, said = answer.status, redact.diagnose(answer)
    if status in {401, 403}:
        return RegistryDenied(
            f"the registry refuses access to {subject} ({status})",
            hint=denial_hint(credentials),
            status=status,
            diagnostics=said,
        )
    if says_missing(answer):
        missing = RegistryMissing(f"the registry does not have {subject}", status=status, diagnostics=said)
        missing.named = _find_digests(answer)
        return missing
    if status == 409 and "RENAME_IN_PROGRESS" in error_codes(answer):
        return RegistryError(
            f"the repository is just being renamed: the registry does not answer for {subject} (409)",
            hint="Try again in a few minutes.",
            code="rename-in-progress",
            temporary=True,
            status=status,
            diagnostics=said,
        )
    if status == 429:
        return RegistryError(
            f"the registry throttles us at {subject} (429)",
            hint="Lower requests_per_second or connections for this registry, or try later.",
            code="registry-throttled",
            temporary=True,
            status=status,
            diagnostics=said,
        )
    if status >= 500:
        return RegistryError(
            f"the registry failed at {subject} ({status})",
            hint="Look at the registry's log; the same request may work later.",
            code="registry-failing",
            temporary=True,
            status=status,
            diagnostics=said,
        )
    return _unexpected(answer, subject, said)


def _unexpected(answer: Answer, subject: str, said: str) -> RegistryProtocolError:
    status = answer.status
    if 300 <= status < 400:
        message, hint = f"the server redirects {subject} ({status}), which is not followed", "Check the address."
    elif status == 404 and any("accept header" in str(entry.message).lower() for entry in _entries(answer)):
        message = f"{subject} is of a type that this registry does not serve to us"
        hint = "It is kept as it is; it was not read."
    elif status == 404:
        message = f"the server does not know {subject}, but not in the way a registry says so (404)"
        hint = "Check the address; a proxy may have answered."
    else:
        message, hint = f"the registry cannot answer for {subject} ({status})", ""
    return RegistryProtocolError(message, hint=hint, status=status, diagnostics=said)


class Redactor:
    """Shortens what a registry said and takes out whatever could be a secret, ours literally."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)

    def hide(self, secret: str) -> None:
        """Take out another secret as well from now on."""
        if len(secret) >= 4:
            self._secrets += (secret,)

    def diagnose(self, answer: Answer) -> str:
        """One line of at most 300 characters: codes and messages, or the beginning of a text."""
        entries = _entries(answer)
        if entries:
            text = "; ".join(f"{str(entry.code)[:80]}: {str(entry.message)[:200]}" for entry in entries[:5])
        else:
            text = _TAGS.sub(" ", answer.body[:4096].decode("utf-8", "replace"))
        return self.clean(text)

    def clean(self, text: str) -> str:
        """``text`` on one line, printable, shortened, without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _SECRETS[0].sub(r"\1 ***", text)
        text = _SECRETS[1].sub(r"\1\2***", text)
        text = _JWT.sub("***", _SECRETS[2].sub(r"\1", text))
        line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return line if len(line) <= _MAX_DIAGNOSTICS else line[: _MAX_DIAGNOSTICS - 1] + "…"


def _entries(answer: Answer) -> list[_Entry]:
    if not answer.body.lstrip().startswith(b"{"):
        return []
    try:
        return _decode_errors(answer.body).errors
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
