"""How does a command that must write do so while the service has the database? It asks the service to do it."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog

from regwarden import errors
from regwarden._version import __version__
from regwarden.errors import Conflict, InputError, RegistryError, RegwardenError
from regwarden.store.service_socket import connect_socket, has_unix_sockets, is_answered, socket_beside

T = TypeVar("T")

# The service sends a sign of life every five seconds.
SILENCE_SECONDS: Final = 60.0

_BUSY: Final = "database-busy"
_LONGEST_LINE_BYTES: Final = 256 * 1024 * 1024
# Arguments that name files: the service has another working directory.
_FILE_ARGUMENTS: Final = frozenset({"ca_bundle", "client_certificate", "client_key", "docker_config", "file"})


@dataclass(frozen=True, slots=True)
class ServiceCommand(Generic[T]):
    """A command as the service takes it (``service_commands``), and the type of what it returns."""

    name: str
    arguments: Mapping[str, Any] = field(repr=False)
    result: type[T]
    on_progress: Callable[[Any], None] | None = None
    on_warning: Callable[[str], None] | None = None


def forward(busy: Conflict, database_url: str, command: ServiceCommand[T]) -> T:
    """The result of ``command``, run by the service that keeps us from writing; raises ``busy`` if there is none."""
    path = find_service(database_url) if busy.code == _BUSY else None
    if path is None:
        raise _explain_busy(busy)
    result = call_service(
        path, command.name, command.arguments, on_progress=command.on_progress, on_warning=command.on_warning
    )
    try:
        return msgspec.convert(result, command.result)
    except msgspec.ValidationError as error:
        raise _lost(command.name, f"its answer cannot be understood ({error})") from error


def find_service(database_url: str) -> Path | None:
    """The socket of the service that has this database open; None if there is none that answers.

    Raises StoreError if another user's process is listening in its place.
    """
    path = socket_beside(database_url) if has_unix_sockets() else None
    return path if path is not None and is_answered(path) else None


def call_service(
    path: Path,
    command: str,
    arguments: Mapping[str, Any],
    *,
    on_progress: Callable[[Any], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Any:
    """Let the service at ``path`` run a command; returns its result as plain values (see ``msgspec.convert``).

    Raises the error that the command raised there, and Conflict with the code ``service-lost`` if the service goes
    away. Interrupted, the command is cancelled.
    """
    try:
        body = msgspec.json.encode({"command": command, "arguments": arguments, "version": __version__})
    except (TypeError, UnicodeError) as error:
        raise InputError(f"{command} does not take these arguments: {error}", code="bad-request") from error
    try:
        with closing(_Connection(path)) as connection:
            connection.request("POST", "/run", body, {"Content-Type": "application/json"})
            # Not read to the end when we leave early: closing is what cancels the command.
            with closing(connection.getresponse()) as response:
                for record in _records(response):
                    if "result" in record:
                        return record["result"]
                    _pass_on(record, on_progress, on_warning or _log_warning)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise _lost(command, f"{error}" or type(error).__name__) from error
    raise _lost(command, "it ended the connection")


def absolute_files(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` with the names of files as they are understood from any working directory."""
    return {
        name: str(Path(value).expanduser().absolute()) if name in _FILE_ARGUMENTS and value else value
        for name, value in arguments.items()
    }


def explain_migrating(busy: Conflict, database_url: str) -> Conflict:
    """The error of a command that needs the database for itself, and that the service cannot do for it."""
    if busy.code != _BUSY or find_service(database_url) is None:
        return _explain_busy(busy)
    return Conflict(
        "the service has this database open",
        hint="It migrated the database when it started. To migrate it with this release, stop `regwarden serve` first.",
        code="service-running",
    )


def _explain_busy(busy: Conflict) -> Conflict:
    if busy.code != _BUSY or has_unix_sockets():
        return busy
    hint = (
        "If that is `regwarden serve`, stop it for the time of this command: this platform has no Unix sockets "
        "through which it could be asked."
    )
    return Conflict(busy.message, hint=hint, code=busy.code)


def _log_warning(text: str) -> None:
    structlog.get_logger("regwarden").warning(text)


class _Connection(http.client.HTTPConnection):
    """HTTP over the socket at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect; called by the first request."""
        self.sock: socket.socket = connect_socket(self._path)
        self.sock.settimeout(SILENCE_SECONDS)


def _records(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := response.readline(_LONGEST_LINE_BYTES):
        yield msgspec.json.decode(line, type=dict[str, Any])


def _pass_on(
    record: Mapping[str, Any], on_progress: Callable[[Any], None] | None, on_warning: Callable[[str], None]
) -> None:
    if "error" in record:
        raise _parse_error(record["error"])
    if "warning" in record:
        on_warning(record["warning"])
    if "progress" in record and on_progress is not None:
        on_progress(record["progress"])


def _parse_error(record: Mapping[str, Any]) -> RegwardenError:
    kind = getattr(errors, str(record.get("class")), RegwardenError)
    if not (isinstance(kind, type) and issubclass(kind, RegwardenError)):
        kind = RegwardenError
    details = {name: record[name] for name in ("temporary", "status", "diagnostics") if name in record}
    message, hint, code = (str(record.get(name, "")) for name in ("message", "hint", "code"))
    error = kind(message, hint=hint, code=code, **(details if issubclass(kind, RegistryError) else {}))
    error.exit_status = int(record.get("exit_status", kind.exit_status))
    return error


def _lost(command: str, reason: str) -> Conflict:
    return Conflict(
        f"the service that writes the database was lost while it ran `{command}`: {reason}",
        hint="Look at the service's log, then run the same command again.",
        code="service-lost",
    )
