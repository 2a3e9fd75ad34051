"""``python -m regwarden.testing``: serve the sample registry until interrupted; its address goes to standard output."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

from regwarden import clock
from regwarden.testing.authentication import Auth, BasicAuth, BearerAuth, DigestAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.company import company_content
from regwarden.testing.content import Content
from regwarden.testing.notifications import Endpoint
from regwarden.testing.server import Listen, SampleRegistry

_USERS: Final = {"demo": "demo"}
_BEHAVIOURS: Final = {
    "distribution-2": Behaviour.distribution_2,
    "distribution-3": Behaviour.distribution_3,
    "oci-1.1": Behaviour.oci_1_1,
}


def build_parser() -> argparse.ArgumentParser:
    """The command line of the sample registry."""
    parser = argparse.ArgumentParser(
        prog="python -m regwarden.testing",
        description="Serve a sample registry with the images of an invented company, in memory, until interrupted.",
        epilog="With authentication the user is demo and the password demo. Layers have a declared size only: they "
        "can be inventoried and deleted, not run.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--auth", choices=("none", "basic", "bearer", "digest"), default="none", help="who may ask")
    parser.add_argument(
        "--behaviour", choices=sorted(_BEHAVIOURS), default="distribution-2", help="which registry it behaves like"
    )
    parser.add_argument("--latency-ms", type=float, default=0.0, help="milliseconds to wait before every answer")
    parser.add_argument("--empty", action="store_true", help="start without any repository")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other sizes and dates")
    parser.add_argument("--notify", metavar="URL", help="post notifications there, as Distribution does")
    return parser


def build_registry(arguments: argparse.Namespace) -> SampleRegistry:
    """The registry that the command line asks for, not started yet."""
    behaviour = _BEHAVIOURS[arguments.behaviour]()
    behaviour.latency_seconds = arguments.latency_ms / 1000
    return SampleRegistry(
        Content() if arguments.empty else company_content(clock.now(), arguments.seed),
        auth=_build_auth(arguments.auth),
        behaviour=behaviour,
        listen=Listen(arguments.host, arguments.port),
        notify=Endpoint(arguments.notify) if arguments.notify else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the exit status is 0, or 1 where the address cannot be listened on."""
    parsed = build_parser().parse_args(arguments)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(build_registry(parsed)))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {parsed.host}:{parsed.port}: {os.strerror(error.errno or errno.EINVAL)}\n")
        return 1
    return 0


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port (0 to 65535)")
    return number


def _build_auth(kind: str) -> Auth:
    match kind:
        case "basic":
            return BasicAuth(_USERS)
        case "bearer":
            return BearerAuth(_USERS)
        case "digest":
            return DigestAuth(_USERS)
    return None


async def _serve(registry: SampleRegistry) -> None:
    async with registry:
        sys.stdout.write(f"{registry.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    raise SystemExit(main())
