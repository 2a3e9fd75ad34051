"""Which socket beside a SQLite file does its service listen on, and who may use it? Only the owner of both.

PostgreSQL takes several writers, so nothing needs a socket there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from regwarden.errors import Conflict, StoreError
from regwarden.store.addresses import parse_database_address

CONNECT_TIMEOUT_SECONDS: Final = 5.0
_BACKLOG: Final = 64
# unix(7): sun_path has 108 bytes with the final NUL; BSD's and macOS's have 104.
_LONGEST_NAME_BYTES: Final = 103
_ROOT: Final = 0

_PLACE: Final = "The service and the commands beside it need this name for themselves, on a local disk."
_OTHER_USER: Final = "Run this as the user who runs the service; if there is no service, remove the file."


def has_unix_sockets() -> bool:
    """Whether this platform has the sockets that a service and the commands beside it need."""
    return hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")


def socket_beside(database_url: str) -> Path | None:
    """Where the service of this database listens; None for databases that several processes may write.

    Raises InputError for an address that cannot be understood.
    """
    file = parse_database_address(database_url).file
    return None if file is None else Path(f"{file}.sock")


def bind_socket(path: Path) -> socket.socket:
    """A listening socket at ``path`` that only this user may connect to; a stale one is replaced.

    Raises Conflict when another process answers there, StoreError when ``path`` is another user's, something else
    than a socket, or cannot be bound.
    """
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The rights must be right from the first moment on; chmod alone would come too late.
    former_mask = os.umask(0o177)
    try:
        _at_path(path, listening.bind)
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _unusable(path, error.strerror or str(error)) from error
    finally:
        os.umask(former_mask)
    return listening


@contextmanager
def bound_socket(path: Path) -> Iterator[socket.socket]:
    """``bind_socket`` while the block lasts; at its end the name is removed, unless it is somebody else's by then."""
    with bind_socket(path) as listening:
        ours = path.lstat()
        try:
            yield listening
        finally:
            with suppress(OSError):
                if os.path.samestat(path.lstat(), ours):
                    path.unlink()


def connect_socket(path: Path) -> socket.socket:
    """A connection to the service at ``path``; raises OSError if nobody answers, StoreError if it is not ours."""
    _check_owner(path)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(CONNECT_TIMEOUT_SECONDS)
        _at_path(path, connected.connect)
        _check_listener(connected, path)
    except BaseException:
        connected.close()
        raise
    return connected


def is_answered(path: Path) -> bool:
    """Whether a process of ours listens at ``path``; raises StoreError if it is another user's."""
    try:
        connect_socket(path).close()
    except (BlockingIOError, TimeoutError):
        return True  # somebody listens, but is very busy
    except OSError:
        return False
    return True


def is_peer_trusted(connected: socket.socket, others: Collection[int] = ()) -> bool:
    """Whether the other end is this user, root or, for root, one of ``others``; True where it cannot be told."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    layout = "3i"
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(layout))
    _, peer, _ = struct.unpack(layout, raw)
    return peer in {_ROOT, os.geteuid()} or (os.geteuid() == _ROOT and peer in others)


def _remove_stale(path: Path) -> None:
    try:
        is_taken = is_answered(path)
        if path.is_symlink() or path.exists():
            if is_taken:
                raise Conflict(f"another service is listening on {path}", hint="Stop it first.", code="service-running")
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _check_owner(path: Path) -> None:
    """Raise StoreError unless ``path`` is a socket of this user, or for root of the database's owner."""
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode):
        raise _unusable(path, "it is no socket")
    ours = {os.geteuid()} | ({_database_owner(path)} if os.geteuid() == _ROOT else set())
    if found.st_uid not in ours:
        raise _unusable(path, "it belongs to another user", _OTHER_USER)


def _check_listener(connected: socket.socket, path: Path) -> None:
    """Raise StoreError if another user listens: the name may have been replaced since it was looked at."""
    if not is_peer_trusted(connected, {_database_owner(path)}):
        raise _unusable(path, "another user is listening there", _OTHER_USER)


def _database_owner(path: Path) -> int:
    try:
        return path.with_suffix("").stat().st_uid
    except FileNotFoundError:
        return os.geteuid()


def _at_path(path: Path, use: Callable[[str], object]) -> None:
    """Call ``use`` with a name of ``path`` that fits into a socket's address."""
    if len(os.fsencode(path)) <= _LONGEST_NAME_BYTES:
        use(str(path))
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{directory}/{path.name}"
        if len(os.fsencode(short)) > _LONGEST_NAME_BYTES or not Path(f"/proc/self/fd/{directory}").exists():
            raise OSError(errno.ENAMETOOLONG, "the path is too long for a socket")
        use(short)
    finally:
        os.close(directory)


def _unusable(path: Path, reason: str, hint: str = _PLACE) -> StoreError:
    return StoreError(f"cannot use {path}: {reason}", hint=hint, code="service-socket")
