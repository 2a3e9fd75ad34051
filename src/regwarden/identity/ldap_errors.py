"""How can asking a directory fail? Never with an answer that could be taken for "wrong password" or "no groups"."""

from __future__ import annotations

from regwarden.errors import ProviderError, Unauthorized


class LoginRefused(Unauthorized):
    """The one answer to everybody who cannot sign in, whatever the reason.

    ``diagnostics`` is the reason, for administrators (``config try-ldap``), never for those who sign in.
    """

    code = "bad-login"

    def __init__(self, diagnostics: str) -> None:
        super().__init__("the name or the password is not right")
        self.diagnostics = diagnostics


class DirectoryError(ProviderError):
    """The directory cannot be asked, or its answer cannot be used.

    ``diagnostics`` is for administrators (the log, ``config try-ldap``), never for those who sign in.
    """

    code = "directory-unavailable"

    def __init__(self, diagnostics: str) -> None:
        super().__init__("the directory cannot be asked", hint="Try again later; the log says why.")
        self.diagnostics = diagnostics


class ServerUnreachable(DirectoryError):
    """One server did not answer, not in time, or said that it cannot now: the next one is asked."""
