"""Every error Regwarden raises on purpose: what happened, what to do, and how each interface reports it.

The class decides the numbers; the ``code`` is permanent and documented in ``docs/reference/errors.md``.
"""

from __future__ import annotations


class RegwardenError(Exception):
    """Base of all deliberate errors.

    ``message`` is one sentence about what happened, ``hint`` one about what to do (may be empty).
    ``code`` names the error for programs, ``exit_status`` and ``http_status`` are what the command line
    and the web interface answer with.
    """

    code = "error"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class InputError(RegwardenError):
    """What the user or a document says cannot be understood: a bad reference, pattern, setting or manifest."""

    code = "bad-input"
    exit_status = 2
    http_status = 400


class NotFound(RegwardenError):
    """The thing asked for is not in the inventory."""

    code = "not-found"
    exit_status = 1
    http_status = 404


class Conflict(RegwardenError):
    """The request does not fit the present state, for example another process is writing."""

    code = "conflict"
    exit_status = 1
    http_status = 409


class Unauthorized(RegwardenError):
    """Nobody has shown who they are, or what they showed is not valid; says nothing about why to those outside."""

    code = "unauthorized"
    exit_status = 1
    http_status = 401


class Forbidden(RegwardenError):
    """It is known who asks, and they may not do this."""

    code = "forbidden"
    exit_status = 1
    http_status = 403


class TooManyAttempts(RegwardenError):
    """Too many failed sign-ins, or too many requests; ``retry_after_seconds`` is when to come again."""

    code = "too-many-attempts"
    exit_status = 1
    http_status = 429

    def __init__(self, message: str, *, retry_after_seconds: int, hint: str = "", code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_seconds = retry_after_seconds


class ProviderError(RegwardenError):
    """A directory or an identity provider cannot be asked: nobody can sign in with it for now."""

    code = "provider"
    exit_status = 1
    http_status = 503


class NotReady(RegwardenError):
    """What would answer is still being loaded: the same question can be answered in a moment."""

    code = "not-ready"
    exit_status = 1
    http_status = 503


class StoreError(RegwardenError):
    """The database cannot be opened, is of another version, or failed."""

    code = "store"
    exit_status = 1
    http_status = 503


class RegistryError(RegwardenError):
    """A registry could not be asked or gave an answer that cannot be used.

    ``temporary`` says whether the same request may work later; ``status`` is the HTTP status, if there was
    one; ``diagnostics`` is what the registry said, shortened and free of secrets.
    """

    code = "registry"
    exit_status = 1
    http_status = 502

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        temporary: bool = False,
        status: int | None = None,
        diagnostics: str = "",
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.temporary = temporary
        self.status = status
        self.diagnostics = diagnostics


class RegistryUnreachable(RegistryError):
    """No HTTP answer: unknown host, refused or reset connection, timeout, TLS failure."""

    code = "registry-unreachable"


class RegistryDenied(RegistryError):
    """401 or 403: credentials are missing, wrong or not sufficient. Never means that something is gone."""

    code = "registry-denied"


class RegistryMissing(RegistryError):
    """404 for the thing itself, with an answer that says so (``MANIFEST_UNKNOWN``, ``NAME_UNKNOWN``, …).

    ``named`` are the digests in that answer: Distribution tells what a tag that leads nowhere points to.
    """

    code = "registry-missing"
    named: tuple[str, ...] = ()


class RegistryProtocolError(RegistryError):
    """The answer is not what the distribution API promises: not a registry, bad JSON, wrong digest, too large."""

    code = "registry-protocol"
