"""What the settings look like on paper: the commented default file, the effective values, the manual's page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from regwarden.settings import RegistrySettings, Settings
from regwarden.settings_environment import environment_name
from regwarden.settings_mistakes import entry_path
from regwarden.settings_shape import sections
from regwarden.settings_sources import LoadedSettings, default_database

_HIDDEN: Final = "(hidden)"
_PASSWORD: Final = re.compile(
    r"(?P<user>://[^/@:]*:)[^@]*(?=@)"
    r"|(?P<key>\b\w*password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)",
    re.IGNORECASE,
)
_HEADER: Final = """\
# Configuration of Regwarden. Every setting is shown with its default or, commented out, an example.
# A variable of the environment overrides the file: REGWARDEN_DATABASE, REGWARDEN_DEFAULTS_RETRIES,
# REGWARDEN_REGISTRY_<NAME>_URL (the registry's name in capitals, everything but letters and digits as _)."""
# What is said above a table in the default file.
_REMARKS: Final = {
    "pull_rule": ("Repeat this block for every rule; Regwarden's own rules come after them.",),
    "oidc": ("Repeat this block for every identity provider.",),
    "role": ("Repeat this block for every rule; who signs in and matches none may do nothing.",),
    "registry": ("Repeat this block for every registry. Passwords are never written here: name a file or a variable.",),
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One effective value and where it comes from."""

    setting: str
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class SettingText:
    """One setting as documented."""

    key: str
    kind: str
    default: str
    description: str
    example: str


def default_document() -> str:
    """A complete, commented configuration file in which everything has its default."""
    blocks = [
        _HEADER,
        *(_setting_lines(text, commented=bool(text.example)) for text in describe(Settings)),
    ]
    for section in sections():
        is_commented = section.is_repeated  # commented out as a whole: there is no default of it
        blocks += [f"# {line}" for line in _REMARKS.get(section.path, ())]
        blocks.append(f"# {section.header}" if is_commented else section.header)
        blocks += [
            _setting_lines(text, commented=is_commented or bool(text.example)) for text in describe(section.model)
        ]
    return "\n\n".join(blocks) + "\n"


def describe(model: type[msgspec.Struct]) -> Iterator[SettingText]:
    """The documented settings of a section, in order; nested tables are left out."""
    hints = get_type_hints(model, include_extras=True)
    for field in msgspec.structs.fields(model):
        meta, kind = _meta(hints[field.name])
        if meta is None:
            continue
        default = "" if field.default is msgspec.NODEFAULT else _toml(field.default)
        example = (meta.extra or {}).get("example")
        shown = "" if example is None else _toml(example)
        yield SettingText(field.encode_name, kind, default, meta.description or "", shown)


def effective_rows(loaded: LoadedSettings) -> list[SettingRow]:
    """Every value in force with its source; secrets are hidden."""
    settings = loaded.settings
    rows = [
        SettingRow("version", settings.version, loaded.origin("version")),
        SettingRow("database", display_database(settings.database or default_database()), loaded.origin("database")),
    ]
    for section in sections():
        value = section.value(settings)
        for number, table in enumerate(value if section.is_repeated else (value,)):
            keys = msgspec.structs.asdict(table)
            path = entry_path(section.path, number, keys) if section.is_repeated else section.path
            rows += [SettingRow(f"{path}.{key}", kept, loaded.origin(f"{path}.{key}")) for key, kept in keys.items()]
            if isinstance(table, RegistrySettings) and table.name in loaded.secrets:
                rows.append(SettingRow(f"{path}.password", _HIDDEN, loaded.origin(f"{path}.password")))
    return rows


def display_database(url: str) -> str:
    """A database address without its password."""
    return _PASSWORD.sub(lambda match: next(filter(None, match.groups())) + _HIDDEN, url)


def reference_page() -> str:
    """The manual's page about settings, in Markdown."""
    parts = [_INTRODUCTION]
    titled: list[tuple[str, type[msgspec.Struct]]] = [
        ("Top of the file", Settings),
        *((section.header, section.model) for section in sections()),
    ]
    for title, model in titled:
        parts.append(f"## {title}\n\n{(model.__doc__ or '').strip()}\n")
        rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
        rows += [
            f"| `{text.key}` | {text.kind} | {f'`{text.default}`' if text.default else 'required'} "
            f"| {text.description} |"
            for text in describe(model)
        ]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _meta(hint: Any) -> tuple[Meta | None, str]:
    """The description within ``Annotated[…]`` and the type's name for people."""
    if get_origin(hint) is not Annotated:
        return None, ""
    inner, *notes = get_args(hint)
    description = next((note.description for note in notes if isinstance(note, Meta) and note.description), None)
    example = next((note.extra for note in notes if isinstance(note, Meta) and note.extra), None)
    if description is None:
        return None, ""
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return Meta(description=description, extra=example), names.get(inner, "list of texts")


def _setting_lines(text: SettingText, *, commented: bool) -> str:
    mark = "# " if commented else ""
    value = text.example or text.default or '""'
    if text.key == "name":
        value = '"production"'
    return f"# {text.description}\n{mark}{text.key} = {value}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


_INTRODUCTION: Final = f"""# Settings

Regwarden needs no configuration file: `regwarden crawl https://registry.example.com` works without one. A file names
registries once and for all. It is looked for at `--config FILE`, `$REGWARDEN_CONFIG`, the user's configuration
directory (`~/.config/regwarden/regwarden.toml` on Linux) and `/etc/regwarden/regwarden.toml`; the first that exists is
used alone. `regwarden config default` prints a complete file, `regwarden config check` checks one, and
`regwarden config show` prints every value in force with its source.

## Environment

A variable overrides the file, and an option of the command line overrides both.

| variable | sets |
|---|---|
| `REGWARDEN_CONFIG` | the configuration file |
| `REGWARDEN_DATABASE` | `database` |
| `REGWARDEN_DEFAULTS_<KEY>` | a setting of `[defaults]`, for example `REGWARDEN_DEFAULTS_RETRIES=2` |
| `REGWARDEN_SERVER_<KEY>`, `REGWARDEN_EVENTS_<KEY>`, `REGWARDEN_PULLS_<KEY>`, `REGWARDEN_COMPAT_REGSTAT_<KEY>` | \
likewise for those tables |
| `REGWARDEN_REGISTRY_<NAME>_<KEY>` | one of that registry (for `my-registry`: `{environment_name("my-registry")}`) |
| `REGWARDEN_REGISTRY_<NAME>_PASSWORD` | the registry's password |

The name is written in capitals, with an underscore for everything that is not a letter or digit. Lists are separated
by commas. A variable whose name is nearly one of these is refused, so that a slip is not silently without effect; any
other that begins with `REGWARDEN_` is ignored with a warning.

These variables of docker-registry-util are understood. They apply to the registry that `REGISTRY` names, or, when
`REGISTRY` is not set, to an address given on the command line; never to another registry, because a password must
not travel: `REGISTRY`, `REGISTRY_USER`, `REGISTRY_PASSWORD`, `REGISTRY_USE_DIGEST_AUTH`, `REGISTRY_CLIENT_CERT`,
`REGISTRY_CLIENT_KEY`, `REQUESTS_CA_BUNDLE`.

## Passwords

A password is read from, in this order: `--password-stdin` or `--password-file`, `REGWARDEN_REGISTRY_<NAME>_PASSWORD`,
`password_env`, `password_file`, `REGISTRY_PASSWORD`, the Docker configuration (`docker login`, credential helpers
included). It is never accepted as an argument or inside the file, and never printed or logged.
"""
