"""How is a registry reached, as said on the command line? The password comes from a file or standard input only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from regwarden.errors import InputError
from regwarden.settings_sources import read_secret_file


def reach_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The library's arguments from a command's options, without those that were not given; reads the password."""
    from_stdin, file = options.pop("password_stdin"), options.pop("password_file")
    arguments = {key: value for key, value in options.items() if value not in (None, (), False)}
    password = _read_password(file, arguments.get("username", ""), is_in_stdin=from_stdin)
    return arguments if password is None else {**arguments, "password": password}


def read_token(file: str | None, *, is_in_stdin: bool) -> str | None:
    """A token from the first line of a file or of standard input, or asked for in a terminal; ``None`` without one."""
    token = _read_password(file, "", is_in_stdin=is_in_stdin)
    if token is None and sys.stdin.isatty():
        asked: str = click.prompt("Token (none: public projects alone)", default="", hide_input=True, err=True)
        return asked or None
    if token == "":
        raise InputError("there is no token on standard input", hint="Write it into the first line.")
    return token


def read_typed_password(user: str, *, is_in_stdin: bool) -> str:
    """A password that is asked for in a terminal, or the first line of standard input."""
    if is_in_stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt(f"Password for {user}", hide_input=True, err=True)
    return answer


def _read_password(file: str | None, username: str, *, is_in_stdin: bool) -> str | None:
    if is_in_stdin and file:
        raise InputError("--password-stdin and --password-file exclude each other", hint="Give one of them.")
    if is_in_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if file:
        return read_secret_file(Path(file).expanduser()).reveal()
    if username and sys.stdin.isatty():
        return read_typed_password(username, is_in_stdin=False)
    return None
