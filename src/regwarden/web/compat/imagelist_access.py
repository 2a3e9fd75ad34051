"""Who may read and write in imagelist's interface? Anybody where that was opted for, else whoever has a token."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from regwarden.core.access import Permission, reach
from regwarden.errors import Forbidden, Unauthorized
from regwarden.identity.tokens_file import FileToken, TokensFile
from regwarden.settings_access import ImagelistSettings
from regwarden.web.api.context import Authenticator
from regwarden.web.attempts import Attempts
from regwarden.web.authentication import peer_of

ANONYMOUS: Final = "imagelist (anonymous)"
_SCHEME: Final = "Bearer "


class Gate:
    """Admits requests."""

    def __init__(
        self, settings: ImagelistSettings, tokens: TokensFile | None, authenticator: Authenticator, attempts: Attempts
    ) -> None:
        self._is_open = {
            Permission.ALLOW_READ: settings.unauthenticated_reads,
            Permission.ALLOW_WRITE: settings.unauthenticated_writes and tokens is None,
        }
        self._tokens = tokens
        self._authenticator = authenticator
        self._attempts = attempts

    async def admit(self, request: Request, permission: Permission) -> str:
        """The name of who asks, for the audit. Tokens of imagelist's file may do everything here.

        Raises ``Unauthorized``, ``Forbidden`` and ``TooManyAttempts``.
        """
        if self._is_open[permission]:
            return ANONYMOUS
        try:
            return await self._admit_ours(request, permission)
        except (Unauthorized, Forbidden) as refusal:
            written = request.headers.get("authorization", "")
            if self._tokens is None or not written:
                raise
            # Of the peer itself: a name that all of them share would let one lock out the others.
            peer = peer_of(request)
            with self._attempts.begin(peer, f"imagelist {peer}") as attempt:
                found = _find(self._tokens, written)
                if found is None:
                    raise refusal from None
                attempt.succeed()
                return found.name

    async def _admit_ours(self, request: Request, permission: Permission) -> str:
        """The name of a principal with the permission for everything: an image's id belongs to no repository."""
        principal = await self._authenticator.authenticate(request)
        if not reach(principal, permission).is_everything:
            raise Forbidden(f"{principal.name} may not do this: it needs the permission {permission} for everything")
        return principal.name


def _find(tokens: TokensFile, written: str) -> FileToken | None:
    """The token of a header, as imagelist read it: "bearer" or a second space make it another one."""
    if not written.startswith(_SCHEME):
        return None
    return tokens.find(written.removeprefix(_SCHEME).encode("latin-1", "replace").decode(errors="replace"))
