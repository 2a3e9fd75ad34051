"""What does the configuration file of gitlab-registry-usage-rest say, and how is that written as our configuration?

No secret of it is taken over or repeated, neither in what is written nor in what is told.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from regwarden.core.text import toml_text
from regwarden.errors import InputError

# Its own defaults. Hosts, group and secrets are examples that everybody knows.
_DEFAULTS: Final = {
    "general": {"socket_host": "127.0.0.1", "socket_port": "5000", "server_prefix": "/", "debug": "False"},
    "ldap": {
        "host": "myldap.com",
        "base_dn": "dc=example,dc=com",
        "valid_gid": "00000",
        "username_attribute": "uid",
        "gid_attribute": "gidNumber",
    },
    "jwt": {"auth_token_expires": "2 weeks", "secret_key": "0" * 32},
    "registry": {
        "gitlab_base_url": "https://mygitlab.com/",
        "registry_base_url": "https://registry.mygitlab.com/",
        "username": "root",
        "access_token": "0" * 20,
    },
}
_EXAMPLES: Final = (
    ("ldap", "host"),
    ("ldap", "base_dn"),
    ("registry", "gitlab_base_url"),
    ("registry", "registry_base_url"),
)
_TRUE: Final = frozenset({"true", "yes", "t", "y", "1"})
_DURATION: Final = re.compile(
    r"([0-9]{1,9})(?:([smhdw])|\s+(s|seconds?|m|minutes?|h|hours?|d|days?|w|weeks?))", re.IGNORECASE | re.ASCII
)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_SECONDS: Final = 366 * 86_400
_HOST: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?"
)
_PREFIX: Final = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,100}|[0-9]+(?:\.[0-9]+)+")
# What has a meaning in the search that the group was put into, or in a pattern.
_SPECIAL: Final = re.compile(r"[*()\\<>=!~^$]|\A[a-z]+:")
_HINT: Final = "Correct it in the file, or write that part of our configuration yourself."

_SERVICE: Final = """\
# Made by `regwarden config import gitlab-registry-usage-rest`. Every setting: `regwarden config default`.

# The interface that it had. Tokens that it has given end: /auth_token gives new ones, signed with a key of our own.
[compat.gitlab_registry_usage_rest]
listen = {listen}
prefix = {prefix}
registry = {name}
token_lifetime = {lifetime}"""
_REGISTRY: Final = """\
[[registry]]
name = {name}
url = {url}
username = {username}
# Make this file, readable for the service alone. Its first line is what `access_token` was.
password_file = "/etc/regwarden/registry-password"
# GitLab issues the registry's tokens and knows the projects.
kind = "gitlab"
gitlab_url = {gitlab_url}"""
_LDAP: Final = """\
# The same search without an account, then a bind as the entry that was found. The certificate is verified now: if your
# authority is not one of the system's, add ca_bundle = "FILE". If nobody may read entryUUID, add identity_attribute.
[ldap]
servers = [{server}]
user_base = {base}
username_attribute = {attribute}"""
_EVERYONE: Final = """\
# There was no gid_attribute: whoever could sign in could see everything.
[[role]]
role = "viewer"
provider = "ldap"
everyone = true
registries = [{name}]"""
_GROUP: Final = """\
# Whoever had this group could see everything. Entries without it have no role, and get no token.
[[role]]
role = "viewer"
provider = "ldap"
claims = [{claim}]
registries = [{name}]"""


@dataclass(frozen=True, slots=True)
class ImportedSettings:
    """Our configuration file, and what people must know of it."""

    document: str
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """The values in force and what is noticed while they are read."""

    values: dict[str, dict[str, str]] = field(repr=False)
    warnings: list[str]


def import_gitlab_rest_settings(text: str) -> ImportedSettings:
    """Translate a configuration file; what it does not say has the predecessor's defaults.

    Raises ``InputError`` for what the predecessor could not have worked with.
    """
    reading = _read(text)
    _warn_of_secrets(reading)
    general, registry = reading.values["general"], reading.values["registry"]
    address, gitlab_url = _address(reading, "registry_base_url"), _address(reading, "gitlab_base_url")
    name = toml_text(address.partition("://")[2])
    if general["debug"].lower() in _TRUE:
        reading.warnings.append("general.debug is ignored: there is no debugger to reach from outside")
    blocks = [
        _SERVICE.format(
            listen=toml_text(_listen(general)),
            prefix=toml_text(_prefix(general["server_prefix"])),
            name=name,
            lifetime=toml_text(_lifetime(reading.values["jwt"]["auth_token_expires"])),
        ),
        _REGISTRY.format(
            name=name,
            url=toml_text(address),
            username=toml_text(registry["username"]),
            gitlab_url=toml_text(gitlab_url),
        ),
        *_directory(reading.values["ldap"], name),
    ]
    return ImportedSettings("\n\n".join(blocks) + "\n", tuple(reading.warnings))


def _read(text: str) -> _Reading:
    parser = configparser.ConfigParser()
    parser.read_dict(_DEFAULTS)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        # What the parser says repeats lines of the file, and some hold secrets.
        line = getattr(error, "lineno", None) or next((number for number, _ in getattr(error, "errors", ())), None)
        place = f" (line {line})" if line else ""
        raise InputError(f"the file is not what gitlab-registry-usage-rest reads{place}", hint=_HINT) from None
    found: dict[str, dict[str, str]] = {section: {} for section in _DEFAULTS}
    for section, keys in _DEFAULTS.items():
        for key in keys:
            try:
                found[section][key] = parser.get(section, key)
            except configparser.InterpolationError:
                raise InputError(
                    f"{section}.{key} has a % that gitlab-registry-usage-rest could not read",
                    hint="Write %% for a percent sign.",
                ) from None
    return _Reading(found, _surplus(parser) + _examples(found))


def _surplus(parser: configparser.ConfigParser) -> list[str]:
    """What the predecessor passed over."""
    sections = [one for one in parser.sections() if one not in _DEFAULTS]
    keys = [
        f"{section}.{key}"
        for section, known in _DEFAULTS.items()
        for key in parser[section]
        if key not in known and key not in parser.defaults()
    ]
    return [f"{name[:80]!r} is nothing that gitlab-registry-usage-rest read" for name in (*sections, *keys)]


def _examples(found: dict[str, dict[str, str]]) -> list[str]:
    return [
        f"{section}.{key} is the predecessor's example, {_DEFAULTS[section][key]}: correct it"
        for section, key in _EXAMPLES
        if found[section][key] == _DEFAULTS[section][key]
    ]


def _warn_of_secrets(reading: _Reading) -> None:
    values, warnings = reading.values, reading.warnings
    warnings.append("registry.access_token was left out: write it into the first line of the password_file")
    if values["registry"]["access_token"] == _DEFAULTS["registry"]["access_token"]:
        warnings.append("registry.access_token is the predecessor's example, which everybody knows: make a real one")
    warnings.append("jwt.secret_key was left out: tokens given before end, and people sign in once more")
    if values["jwt"]["secret_key"] == _DEFAULTS["jwt"]["secret_key"]:
        warnings.append(
            "jwt.secret_key is the predecessor's default, which everybody knows: until it is stopped, anybody can make "
            "tokens for it"
        )


def _listen(general: dict[str, str]) -> str:
    host, port = general["socket_host"].strip() or "0.0.0.0", general["socket_port"].strip()  # noqa: S104 -- as it was
    is_port = port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if not is_port or not _HOST.fullmatch(host):
        raise InputError("general.socket_host and socket_port are no address to listen on", hint=_HINT)
    return f"{host}:{int(port)}"


def _prefix(written: str) -> str:
    prefix = "/" + written.strip().strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise InputError("general.server_prefix is no path", hint="Write /some/path with letters, digits and ._~-")
    return prefix


def _lifetime(written: str) -> str:
    match = _DURATION.fullmatch(written.strip())
    count, unit = (int(match[1]), (match[2] or match[3])[0].lower()) if match else (0, "s")
    if not 0 < count * _SECONDS[unit] <= _MAX_SECONDS:
        raise InputError(
            "jwt.auth_token_expires is not a duration of up to 366 days",
            hint="Write a number and seconds, minutes, hours, days or weeks, for example 2 weeks.",
        )
    return f"{count}{unit}"


def _address(reading: _Reading, key: str) -> str:
    """An address without its slash at the end."""
    written = reading.values["registry"][key].strip()
    try:
        parts = urlsplit(written)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise InputError(f"registry.{key} is not an address", hint="Write https://gitlab.example.com/ without a user.")
    if parts.scheme == "http":
        reading.warnings.append(f"registry.{key} is http: the access token crosses the network readable")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _directory(ldap: dict[str, str], name: str) -> list[str]:
    host = ldap["host"].strip().removeprefix("ldaps://").rstrip("/")
    attribute, group_attribute, group = (
        ldap[key].strip() for key in ("username_attribute", "gid_attribute", "valid_gid")
    )
    if not _HOST.fullmatch(host):
        raise InputError("ldap.host is not a host", hint="Write ldap.example.com or ldaps://ldap.example.com:636.")
    if not _ATTRIBUTE.fullmatch(attribute) or (group_attribute and not _ATTRIBUTE.fullmatch(group_attribute)):
        raise InputError("ldap.username_attribute or ldap.gid_attribute is no attribute", hint=_HINT)
    directory = _LDAP.format(
        server=toml_text(f"ldaps://{host}"), base=toml_text(ldap["base_dn"].strip()), attribute=toml_text(attribute)
    )
    if not group_attribute:
        return [directory, _EVERYONE.format(name=name)]
    if not group or (group != "*" and _SPECIAL.search(group)):
        raise InputError("ldap.valid_gid is no plain value", hint=_HINT)
    claim = f"{group_attribute}={'glob:**' if group == '*' else group}"
    directory += f"\nattributes = [{toml_text(group_attribute)}]"
    return [directory, _GROUP.format(claim=toml_text(claim), name=name)]
