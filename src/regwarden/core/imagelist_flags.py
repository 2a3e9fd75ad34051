"""What do imagelist's flags and environment say, and how is that written as our configuration?"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from regwarden.errors import InputError

_DEFAULTS: Final = {
    "debug": "false",
    "listen": ":8000",
    "tokens-file": "",
    "dbhost": "localhost",
    "dbport": "5432",
    "dbuser": "postgres",
    "dbpassword": "postgres",
    "dbname": "imagelist",
    "dbsslmode": "disable",
    "certfile": "",
    "keyfile": "",
}
_FLAG_OF: Final = {flag.upper().replace("-", "_"): flag for flag in _DEFAULTS}
_CONNECTION: Final = ("host", "port", "user", "password", "dbname", "sslmode")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_INSTRUCTION: Final = re.compile(
    r"(?:ENTRYPOINT|CMD|ENV|export|-)\s+|(?:command:|args:|entrypoint:|Environment=|ExecStart=)\s*", re.IGNORECASE
)
_SECTION: Final = re.compile(r"\[[A-Za-z]+\]")
_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_HEAD: Final = """\
# Made by `regwarden config import imagelist`. Every setting: `regwarden config default`.

# The same database as before; `regwarden db import imagelist` takes in its table. A password is not written here: give
# it in ~/.pgpass, PGPASSFILE or PGPASSWORD.
database = {database}"""
_TLS: Final = """\
# Every listener serves TLS with it.
[server]
tls_certificate = {certificate}
tls_key = {key}"""
_LISTENER: Final = """\
# The listener that imagelist had. `unauthenticated_reads = true` means that everybody who reaches this port can see
# the list. To close it: remove that line, and give readers a token: `regwarden token create NAME --role viewer`.
[compat.imagelist]
listen = {listen}
unauthenticated_reads = true"""
_OPEN: Final = """\
# Without a tokens file everybody who reaches this port could write, and so decide what may run and what cleanup keeps.
# To close it: replace this line by tokens_file = "…", or give writers a token with the role operator.
unauthenticated_writes = true"""


@dataclass(frozen=True, slots=True)
class ImagelistFlags:
    """The settings in force: where it listens, its files, and how it connects; the password is never shown."""

    listen: str
    tokens_file: str
    certificate: str
    key: str
    connection: str

    def __repr__(self) -> str:
        return f"ImagelistFlags(listen={self.listen!r}, tokens_file={self.tokens_file!r})"


def is_assignment(word: str) -> bool:
    """Whether a word gives a variable of the environment to a program."""
    return _ASSIGNMENT.fullmatch(word) is not None


def split_lines(text: str) -> Iterator[list[str]]:
    """The words of each line: of a shell, a unit file, an environment file, or a container's recipe.

    Raises ``InputError`` for unbalanced quotes and lists that are not valid.
    """
    for whole in text.replace("\\\n", " ").splitlines():
        if _SECTION.fullmatch(whole.strip()):
            continue
        match = _INSTRUCTION.match(whole.strip())
        line = whole.strip()[match.end() if match else 0 :]
        try:
            words = json.loads(line) if line.startswith("[") else shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"the command line cannot be understood: {error}", hint="Check its quotes.") from None
        if not all(isinstance(word, str) for word in words):
            raise InputError("the command line has something that is no text", hint="Write every argument in quotes.")
        yield words


def parse_imagelist_flags(lines: Sequence[Sequence[str]]) -> ImagelistFlags:
    """Read flags with one or two dashes, and variables of the environment, which count for less; the last one counts.

    Raises ``InputError`` for anything else.
    """
    environment: dict[str, str] = {}
    flags: dict[str, str] = {}
    for words in lines:
        _read_line(list(words), environment, flags)
    found = {**_DEFAULTS, **environment, **flags}
    port = found["dbport"]
    if not _is_port(port):
        raise InputError(f"{port[:20]!r} is not a port", hint="A port is a number from 1 to 65535.")
    parts = {name: found[name if name.startswith("db") else f"db{name}"] for name in _CONNECTION}
    return ImagelistFlags(
        listen=_listen_address(found["listen"]),
        tokens_file=found["tokens-file"],
        certificate=found["certfile"] if found["keyfile"] else "",
        key=found["keyfile"] if found["certfile"] else "",
        connection=" ".join(f"{name}={_quoted(value)}" for name, value in parts.items() if value),
    )


def build_document(flags: ImagelistFlags, database: str) -> str:
    """The configuration file that does what those flags did; ``database`` is the connection without its password."""
    blocks = [_HEAD.format(database=_text(database))]
    if flags.certificate:
        blocks.append(_TLS.format(certificate=_text(flags.certificate), key=_text(flags.key)))
    writers = f"tokens_file = {_text(flags.tokens_file)}" if flags.tokens_file else _OPEN
    blocks.append(f"{_LISTENER.format(listen=_text(flags.listen))}\n{writers}")
    return "\n\n".join(blocks) + "\n"


def _read_line(words: list[str], environment: dict[str, str], flags: dict[str, str]) -> None:
    has_begun = False
    while words:
        word = words.pop(0)
        assigned = _ASSIGNMENT.fullmatch(word)
        if word.startswith("-"):
            has_begun = True
            _read_flag(word, words, flags)
        elif assigned is not None and not has_begun:
            # Of other programs' variables there may be any number.
            if assigned[1] in _FLAG_OF:
                environment[_FLAG_OF[assigned[1]]] = assigned[2]
        elif has_begun:
            raise InputError(f"{word[:80]!r} is not a flag of imagelist", hint=_hint())


def _read_flag(word: str, rest: list[str], flags: dict[str, str]) -> None:
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    if name not in _DEFAULTS:
        # What follows "=" may be a password.
        raise InputError(f"{word.partition('=')[0][:80]!r} is not a flag of imagelist", hint=_hint())
    if not equals and name != "debug":
        if not rest:
            raise InputError(f"the flag --{name} has no value", hint=f"Write --{name} VALUE.")
        value = rest.pop(0)
    flags[name] = value


def _hint() -> str:
    return f"Its flags are {', '.join(f'--{flag}' for flag in _DEFAULTS)}."


def _listen_address(text: str) -> str:
    """The address in our form; without a host it is every interface."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not _is_port(match["port"]):
        raise InputError(f"{text[:80]!r} is not an address to listen on", hint="It is HOST:PORT or :PORT.")
    return f"{match['host'] or '0.0.0.0'}:{int(match['port'])}"  # noqa: S104 -- as the flag said


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536


def _quoted(value: str) -> str:
    """A value in a connection string of libpq."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _text(value: str) -> str:
    """A basic string of TOML, which escapes as JSON does, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
