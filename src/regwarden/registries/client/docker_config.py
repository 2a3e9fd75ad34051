"""What does the Docker configuration file, or a credential helper it names, know about a registry host?"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from regwarden.errors import InputError

_MAX_FILE_BYTES: Final = 1024 * 1024
_HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER_PREFIX: Final = "docker-credential-"


@dataclass(frozen=True, slots=True)
class DockerLogin:
    """A login as stored by ``docker login``; all empty where there is none."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    warnings: tuple[str, ...] = ()


def find_docker_login(host: str, config_path: Path | None, environ: Mapping[str, str]) -> DockerLogin:
    """The login for ``host`` (``name[:port]``), helpers included; an empty one where there is none.

    Whatever is wrong with a configuration found by default is a warning; a file named by ``config_path`` must be
    readable, else ``InputError``. A missing or failing helper means no credentials and a warning.
    """
    path = config_path or default_config_path(environ)
    try:
        document = _read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a JSON object"
        if config_path is not None:
            raise InputError(
                f"the Docker configuration {path} cannot be used: {reason}",
                hint="Give the path of a config.json file.",
                code="bad-docker-config",
            ) from None
        if isinstance(error, FileNotFoundError):
            return DockerLogin()
        return DockerLogin(warnings=(f"the Docker configuration {path} was ignored: {reason}",))
    return _find(document, host, path)


def default_config_path(environ: Mapping[str, str]) -> Path:
    """Where Docker keeps its configuration: ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``."""
    directory = environ.get("DOCKER_CONFIG", "")
    if directory:
        return Path(directory) / "config.json"
    home = environ.get("HOME", "")
    return (Path(home) if home else Path.home()) / ".docker" / "config.json"


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("too large")
    document = msgspec.json.decode(content)  # DecodeError is a ValueError
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for "not a configuration"
    return document


def _find(document: dict[str, Any], host: str, path: Path) -> DockerLogin:
    # It brings an HTTP library along, a fifth of a second at start-up: only for those who have such a file.
    from docker.errors import DockerException  # noqa: PLC0415

    from regwarden.registries.client.docker_helpers import QuietConfig  # noqa: PLC0415

    server = "docker.io" if host.lower() in _HUB_HOSTS else host
    relevant: dict[str, Any] = {
        "auths": _matching_entries(document.get("auths"), server),
        "credHelpers": _strings(document.get("credHelpers")),
        "credsStore": document.get("credsStore") if isinstance(document.get("credsStore"), str) else None,
    }
    warnings: list[str] = []
    _drop_missing_helpers(relevant, warnings)
    has_helper = server in relevant["credHelpers"] or relevant["credsStore"] is not None
    try:
        found = QuietConfig.load_config(None, relevant).resolve_authconfig(server) or {}
    except (DockerException, ValueError, KeyError, TypeError, OSError):
        # The exception may quote what a helper printed, so only its kind is told.
        reason = "the credential helper failed" if has_helper else "the entry cannot be read"
        warnings.append(f"no credentials for {host} from {path}: {reason}")
        return DockerLogin(warnings=tuple(warnings))
    return DockerLogin(
        username=str(found.get("username") or found.get("Username") or ""),
        password=str(found.get("password") or found.get("Password") or ""),
        identity_token=str(found.get("IdentityToken") or ""),
        warnings=tuple(warnings),
    )


def _matching_entries(entries: object, server: str) -> dict[str, dict[str, Any]]:
    """The entries of this server only, so that a broken entry of another one harms nobody."""
    from docker.auth import convert_to_hostname  # noqa: PLC0415 - as above

    if not isinstance(entries, dict):
        return {}
    chosen: dict[str, dict[str, Any]] = {}
    for key, entry in entries.items():
        host = convert_to_hostname(key)
        if host in _HUB_HOSTS:
            host = "docker.io"
        if host.lower() == server.lower() and isinstance(entry, dict):
            exact = key.rpartition("://")[2].rstrip("/").partition("/")[2] in {"", "v1", "v2"}
            if exact or server not in chosen:
                chosen[server] = _with_auth(entry)
    return chosen


def _with_auth(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry in the form that the library reads: it knows ``auth``, not ``username`` and ``password``."""
    if not entry.get("identitytoken"):
        entry = {key: value for key, value in entry.items() if key != "identitytoken"}
    if not entry.get("auth"):
        entry = {key: value for key, value in entry.items() if key != "auth"}
        if entry.get("username"):
            pair = f"{entry['username']}:{entry.get('password', '')}"
            entry["auth"] = base64.b64encode(pair.encode()).decode()
    return entry


def _strings(mapping: object) -> dict[str, str]:
    if not isinstance(mapping, dict):
        return {}
    return {key: value for key, value in mapping.items() if isinstance(value, str) and value}


def _drop_missing_helpers(relevant: dict[str, Any], warnings: list[str]) -> None:
    """Forget helpers that are not installed: no credentials and a warning instead of a failure."""
    names = {*relevant["credHelpers"].values(), *filter(None, [relevant["credsStore"]])}
    missing = {name for name in names if "/" in name or shutil.which(_HELPER_PREFIX + name) is None}
    warnings.extend(
        f"the credential helper {_HELPER_PREFIX}{name} is not installed; its credentials are not used"
        for name in sorted(missing)
    )
    relevant["credHelpers"] = {server: name for server, name in relevant["credHelpers"].items() if name not in missing}
    if relevant["credsStore"] in missing:
        relevant["credsStore"] = None
