"""HTTP Digest authentication (RFC 7616) for one registry, by aiohttp's middleware.

Each registry has its own instance and it is given to requests for the registry's own origin only. It chooses by
the first ``WWW-Authenticate`` header; MD5 and SHA-256 with their session forms, ``stale`` and nonce counts are its.
"""

from __future__ import annotations

import aiohttp
from aiohttp import DigestAuthMiddleware
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

from regwarden.errors import RegistryProtocolError
from regwarden.registries.client.credentials import Basic


class DigestAuth:
    """A client middleware that answers Digest challenges of one origin."""

    def __init__(self, credentials: Basic, origin: URL) -> None:
        self._origin = origin
        self._inner = DigestAuthMiddleware(credentials.username, credentials.password)

    async def __call__(self, request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        """Send the request, with Digest credentials where they are asked for."""
        if request.url.origin() != self._origin:
            return await handler(request)
        try:
            return await self._inner(request, handler)
        except aiohttp.ClientError as error:
            # The middleware reports challenges that it cannot answer with the plain base class.
            if type(error) is aiohttp.ClientError:
                raise RegistryProtocolError(
                    "the registry asks for Digest authentication in a way that is not understood",
                    diagnostics=str(error)[:200],
                ) from None
            raise
