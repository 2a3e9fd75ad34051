"""What do regstat's flags and its file of equivalent registries say, and how is that written as our configuration?"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regwarden.core.hosts import normalise_host
from regwarden.errors import InputError

_FLAGS: Final = {
    "port": "port",
    "pg-conn-str": "connection",
    "docker-config": "docker_config",
    "equiv-registries": "equivalents_file",
}
_INSTRUCTION: Final = re.compile(r"\s*(?:ENTRYPOINT|CMD|command:|args:|entrypoint:)\s*", re.IGNORECASE)
_HEAD: Final = """\
# Made by `regwarden config import regstat`. Every setting: `regwarden config default`.

# The same server as before. A password is not written here: give it in ~/.pgpass, PGPASSFILE or PGPASSWORD.
database = {database}"""
_LISTENER: Final = """\
# The listener that regstat had. `unauthenticated = true` means that everybody who reaches this port can send events,
# and so make the inventory say what he likes. To close it: remove that line, run `regwarden registry check NAME`, and
# put the block it prints, with its secret, into the registry's configuration; or let only registries reach the port.
[compat.regstat]
listen = "0.0.0.0:{port}"
unauthenticated = true"""
_DEFAULT_CONNECTION: Final = "host=localhost port=5432 user=postgres sslmode=disable"


@dataclass(frozen=True, slots=True)
class RegstatFlags:
    """The flags in force, with regstat's defaults; ``connection`` is without the quotes of regstat's own default."""

    port: str = "3333"
    connection: str = _DEFAULT_CONNECTION
    docker_config: str = ""
    equivalents_file: str = ""


def split_command_line(text: str) -> list[str]:
    """The flags of a command line: of a shell, a unit file, or a container's ENTRYPOINT or CMD in either form.

    Raises ``InputError`` for unbalanced quotes and lists that are not valid.
    """
    line = _INSTRUCTION.sub("", text.replace("\\\n", " "), count=1) if _INSTRUCTION.match(text) else text
    line = line.replace("\\\n", " ").strip()
    try:
        words = json.loads(line) if line.startswith("[") else shlex.split(line, comments=True)
    except ValueError as error:
        raise InputError(f"the command line cannot be understood: {error}", hint="Check its quotes.") from None
    if not all(isinstance(word, str) for word in words):
        raise InputError("the command line has something that is no text", hint="Write every argument in quotes.")
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[first:])


def parse_regstat_flags(words: Sequence[str]) -> RegstatFlags:
    """Read ``-flag value``, ``-flag=value`` and the same with two dashes, as Go's programs do; the last one counts.

    Raises ``InputError`` for anything else.
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not word.startswith("-") or name not in _FLAGS:
            known = ", ".join(f"-{flag}" for flag in _FLAGS)
            raise InputError(f"{word[:80]!r} is not a flag of regstat", hint=f"Its flags are {known}.")
        if not equals:
            if not rest:
                raise InputError(f"the flag -{name} has no value", hint=f"Write -{name} VALUE.")
            value = rest.pop(0)
        found[_FLAGS[name]] = value
    flags = RegstatFlags(**found)
    if not flags.port.isdecimal() or not 0 < int(flags.port) < 65536:
        raise InputError(f"{flags.port[:20]!r} is not a port", hint="A port is a number from 1 to 65535.")
    return flags


def parse_equivalents(text: str) -> dict[str, tuple[str, ...]]:
    """The hosts of an equivalent-registries file, each with its other names.

    Raises ``InputError`` for bad JSON, and where one name stands for two registries: regstat took either at random.
    """
    hint = 'It holds {"registry": ["alias", …], …}.'
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise InputError(f"the file of equivalent registries is not valid JSON: {error}", hint=hint) from None
    lists = list(parsed.values()) if isinstance(parsed, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise InputError("the file of equivalent registries is not an object of lists of names", hint=hint)
    owners = {normalise_host(host): host for host in parsed}
    equivalents: dict[str, tuple[str, ...]] = {}
    for host, names in parsed.items():
        aliases = []
        for name in dict.fromkeys(names):
            owner = owners.setdefault(normalise_host(name), host)
            if owner != host:
                raise InputError(
                    f"{name} is equivalent to {owner} and to {host}",
                    hint="Keep it in one of the lists; regstat chose one at random.",
                    code="ambiguous-alias",
                )
            if normalise_host(name) != normalise_host(host):
                aliases.append(name)
        equivalents[host] = tuple(aliases)
    return equivalents


def build_document(flags: RegstatFlags, database: str, equivalents: Mapping[str, Sequence[str]]) -> str:
    """The configuration file that does what those flags did; ``database`` is the connection without its password."""
    blocks = [_HEAD.format(database=_text(database)), _LISTENER.format(port=int(flags.port))]
    for host, aliases in equivalents.items():
        blocks.append(_registry_block(host, aliases, flags.docker_config))
    if not equivalents:
        example = _registry_block("registry.example.com", (), flags.docker_config)
        blocks.append(
            "# regstat took any registry. Add a block for each; events of others are kept meanwhile, and\n"
            "# `regwarden registry check` names them.\n" + "\n".join(f"# {line}" for line in example.splitlines())
        )
    return "\n\n".join(blocks) + "\n"


def _registry_block(host: str, aliases: Sequence[str], docker_config: str) -> str:
    lines = [
        "[[registry]]",
        f"name = {_text(host)}",
        f"url = {_text(f'https://{host}')}  # http:// if it has no TLS",
    ]
    if aliases:
        lines.append(f"aliases = [{', '.join(map(_text, aliases))}]")
    if docker_config:
        lines.append(f"docker_config = {_text(docker_config)}")
    return "\n".join(lines)


def _text(value: str) -> str:
    """A basic string of TOML, which escapes as JSON does, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
