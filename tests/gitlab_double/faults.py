"""How do servers misbehave? Answers of the planned faults, for all parts of the double alike."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.gitlab_double.recording import Fault, FaultKind

# What middlewares and handlers tell each other of one request.
FAULT = web.RequestKey("fault", Fault)
IS_SCRIPTED = web.RequestKey("is_scripted", bool)
EXPIRED_TEXT = "Token is expired. You can either do re-authorization or token refresh."


def oauth_refusal(error: str, text: str, *, status: int = 401, scope: str = "") -> web.Response:
    """A refusal in the form of OAuth, with its ``WWW-Authenticate``."""
    body = {"error": error, "error_description": text} | ({"scope": scope} if scope else {})
    header = f'Bearer realm="Protected by OAuth 2.0", error="{error}", error_description="{text}"'
    return web.json_response(body, status=status, headers={"WWW-Authenticate": header})


def _too_many(fault: Fault) -> web.Response:
    reset = time.time() + fault.seconds
    headers = {
        "RateLimit-Limit": "2000",
        "RateLimit-Name": "throttle_authenticated_api",
        "RateLimit-Observed": "2001",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(int(reset)),
        "RateLimit-ResetTime": formatdate(reset, usegmt=True),
        "Retry-After": str(int(fault.seconds)),
    }
    return web.Response(status=429, text="Retry later\n", headers=headers)


def _simple(fault: Fault) -> web.Response | None:
    match fault.kind:
        case FaultKind.TOO_MANY:
            return _too_many(fault)
        case FaultKind.TOO_MANY_BARE:
            return web.Response(status=429, text="Retry later\n")
        case FaultKind.BAD_GATEWAY:
            page = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
            return web.Response(status=502, text=page, content_type="text/html")
        case FaultKind.UNAVAILABLE:
            return web.json_response({"message": "503 Service Unavailable"}, status=503)
        case FaultKind.EXPIRED:
            return oauth_refusal("invalid_token", EXPIRED_TEXT)
        case FaultKind.BANNED:
            return web.Response(status=403, text="Forbidden\n")
        case _:
            return None


async def misbehave(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """The answer to a request for which a fault is planned; ``handler`` makes the right one where that is needed."""
    answer = _simple(fault)
    if answer is not None:
        return answer
    transport = request.transport
    if fault.kind is FaultKind.RESET:
        if transport is not None:
            transport.abort()
        return web.Response(status=500)
    request[FAULT] = fault
    right = await handler(request)
    if fault.kind not in {FaultKind.SLOW, FaultKind.TRUNCATED} or not isinstance(right, web.Response):
        return right
    body = right.body if isinstance(right.body, bytes) else b""
    spoiled = web.StreamResponse(status=right.status, headers=right.headers)
    spoiled.content_length = len(body)
    await spoiled.prepare(request)
    await spoiled.write(body[: len(body) // 2])
    if fault.kind is FaultKind.TRUNCATED:
        if transport is not None:
            transport.close()
        return spoiled
    await asyncio.sleep(fault.seconds)
    await spoiled.write(body[len(body) // 2 :])
    await spoiled.write_eof()
    return spoiled
