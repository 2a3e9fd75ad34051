"""What does a refusal of GitLab's REST API mean? Answers that are no success become ``RegistryError``s with codes.

Source: GitLab REST API, "Status codes", and its ``lib/api/helpers.rb``. 404 also stands for what we may not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.client.diagnostics import Answer, Redactor

_SCOPE_HINT: Final = (
    "Give the token the scope read_api (for deleting: api), or set gitlab_token_file to one that has it."
)
_ROLE_HINT: Final = (
    "This token's user needs the role Reporter there, to delete Developer or Maintainer; an administrator's token may "
    "need the scope admin_mode."
)
_RULE_HINT: Final = "It stays as it is; whoever maintains the project can change the rule."
_ADDRESS_HINT: Final = "Check gitlab_url; a proxy may have answered."


class _Body(msgspec.Struct):
    message: object = None
    error: object = None


_decode_body = msgspec.json.Decoder(_Body).decode


def api_error(answer: Answer, subject: str, redact: Redactor, *, has_token: bool) -> RegistryError:
    """The error for an answer that is no success; ``subject`` names what was asked for. Not for 401 with a token."""
    status, said = answer.status, redact.diagnose(answer)
    words = _words(answer)
    if status == 401:
        return RegistryDenied(
            f"GitLab shows {subject} only to those who sign in (401)",
            hint="Set username and password_file, or gitlab_token_file." if not has_token else "",
            code="api-forbidden",
            status=status,
            diagnostics=said,
        )
    if status == 403:
        return _forbidden(subject, words, said)
    if status == 404 and words is not None:
        return RegistryError(
            f"GitLab does not know {subject}, or does not show it to us (404)",
            hint="Check the name, and that this token's user is a member there.",
            code="api-not-found",
            status=status,
            diagnostics=said,
        )
    if status == 405:
        message = f"this GitLab does not offer {subject} in that way (405)"
        return RegistryError(message, code="api-unsupported", status=status, diagnostics=said)
    if status in {400, 409, 422} and words is not None:
        message = f"GitLab does not accept the question for {subject} ({status})"
        return RegistryError(message, code="api-refused", status=status, diagnostics=said)
    what = "redirects" if 300 <= status < 400 else "cannot answer for"
    return RegistryProtocolError(
        f"GitLab {what} {subject} ({status})", hint=_ADDRESS_HINT, status=status, diagnostics=said
    )


def in_gitlabs_name(error: RegistryError, subject: str) -> RegistryError:
    """``error`` of the transport for 429 and 5xx, with GitLab in place of the registry."""
    what = "throttles us at" if error.status == 429 else "failed at"
    hint = error.hint if error.status == 429 else "Try later; GitLab's log says more."
    if error.status == 503 and "Container Registry" in error.diagnostics:
        what, hint = "does not reach its registry for", "Look whether the registry behind GitLab is running."
    return RegistryError(
        f"GitLab {what} {subject} ({error.status})",
        hint=hint,
        code=error.code,
        temporary=True,
        status=error.status,
        diagnostics=error.diagnostics,
    )


def login_error(answer: Answer, subject: str, redact: Redactor) -> RegistryDenied:
    """The error for a 401 to a token: unknown, expired or revoked, or of a kind that has no API."""
    reason = "does not accept the token"
    said = redact.diagnose(answer)
    for word in ("expired", "revoked"):
        if word in said.lower():
            reason = f"says that the token is {word}"
    return RegistryDenied(
        f"GitLab {reason} at {subject} (401); its API is not asked any more",
        hint="Make a new token. For deploy tokens and passwords, which do not open the API, set gitlab_token_file.",
        code="login-failed",
        status=answer.status,
        diagnostics=said,
    )


def _forbidden(subject: str, words: str | None, said: str) -> RegistryDenied:
    text = (words or "").lower()
    if "insufficient_scope" in text:
        message = f"this token may not ask GitLab for {subject}: its scopes do not suffice"
        return RegistryDenied(message, hint=_SCOPE_HINT, code="api-scope", status=403, diagnostics=said)
    if "protected tag" in text:
        message = f"a rule of the project protects the tag: GitLab refuses {subject}"
        return RegistryDenied(message, hint=_RULE_HINT, code="tag-protected", status=403, diagnostics=said)
    if "protected container repository" in text:
        message = f"a rule of the project protects the repository: GitLab refuses {subject}"
        return RegistryDenied(message, hint=_RULE_HINT, code="repository-protected", status=403, diagnostics=said)
    message = f"GitLab refuses {subject} to this user (403)"
    return RegistryDenied(message, hint=_ROLE_HINT, code="api-forbidden", status=403, diagnostics=said)


def _words(answer: Answer) -> str | None:
    """``message`` or ``error`` of GitLab's own JSON; ``None`` for pages of others."""
    if not answer.body.lstrip().startswith(b"{"):
        return None
    try:
        body = _decode_body(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    found = body.error if body.message is None else body.message
    if found is None:
        return None
    return found if isinstance(found, str) else str(found if not isinstance(found, Mapping) else list(found.values()))
