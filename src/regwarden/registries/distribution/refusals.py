"""Why does a registry take no changes at all? Distribution's read-only mode, told apart from other refusals."""

from __future__ import annotations

from regwarden.errors import RegistryError
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.diagnostics import Answer, error_codes


def is_read_only(answer: Answer) -> bool:
    """Whether a 405 to a writing method is that of a registry in read-only mode.

    Distribution then has no such method: no error body, and ``Allow`` names methods that read (experiment).
    """
    if answer.status != 405 or error_codes(answer):
        return False
    allowed = {method.strip().upper() for method in answer.headers.get("Allow", "").split(",")} - {"", "OPTIONS"}
    return bool(allowed) and allowed <= {"GET", "HEAD"}


def read_only(client: RegistryClient, answer: Answer, subject: str) -> RegistryError:
    """The error for ``is_read_only``; ``subject`` names what was to be changed."""
    return RegistryError(
        f"the registry is in read-only mode: it refuses {subject} (405)",
        hint="Wait until its maintenance is over, or set `storage: maintenance: readonly: enabled: false` in its "
        "configuration and restart it.",
        code="registry-read-only",
        status=answer.status,
        diagnostics=client.transport.redact.diagnose(answer),
    )
