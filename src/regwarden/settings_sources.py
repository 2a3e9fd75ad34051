"""Where settings come from, in rising order: defaults, one TOML file, the environment, the command line.

Every value keeps its source, so that ``config show`` can name it and a mistake is reported with file and line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import platformdirs

from regwarden.errors import InputError
from regwarden.settings import RegistrySettings, Secret, Settings
from regwarden.settings_checks import check_settings
from regwarden.settings_environment import apply_environment
from regwarden.settings_mistakes import DEFAULT_HINT, Lines, in_words, located, nearest
from regwarden.settings_shape import own_fields, tables_of

SYSTEM_FILE: Final = Path("/etc/regwarden/regwarden.toml")
FILE_NAME: Final = "regwarden.toml"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, the file they were read from (if any), and the source of each value by its path."""

    settings: Settings
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    def origin(self, path: str) -> str:
        """Where the value at ``path`` (``defaults.retries``, ``registry.NAME.url``) comes from."""
        return self.origins.get(path, "default")

    def find_registry(self, name: str) -> RegistrySettings | None:
        """The configured registry with this name."""
        return next((registry for registry in self.settings.registry if registry.name == name), None)

    def find_registry_by_url(self, url: str) -> RegistrySettings | None:
        """The configured registry with this address (as ``parse_registry_url`` gives it)."""
        return next((registry for registry in self.settings.registry if registry.url == url), None)


def load_settings(
    environ: Mapping[str, str], *, file: Path | None = None, database: str | None = None
) -> LoadedSettings:
    """Read the configuration file (``file``, else the first place that has one) and the environment.

    ``database`` is what the command line says. Raises ``InputError`` that names the key and, for a file, the line.
    """
    path = file or find_file(environ)
    text = _read_text(path) if path else ""
    document = _parse_toml(text, path)
    lines = Lines(text, path)
    _check_keys(document, lines)
    origins = lines.origins(document)
    secrets, warnings = apply_environment(document, environ, origins)
    if database is not None:
        document["database"], origins["database"] = database, "--database"
    settings = _convert(document, lines, origins)
    return LoadedSettings(settings, path, origins, secrets, tuple(warnings))


def find_file(environ: Mapping[str, str]) -> Path | None:
    """The configuration file to use: ``REGWARDEN_CONFIG``, the user's, the system's; ``None`` if there is none."""
    if named := environ.get("REGWARDEN_CONFIG"):
        return Path(named)
    return next((path for path in (user_file(), SYSTEM_FILE) if path.is_file()), None)


def user_file() -> Path:
    """Where a user's configuration file belongs."""
    return platformdirs.user_config_path("regwarden", appauthor=False) / FILE_NAME


def default_database() -> str:
    """The database used when none is named: a file in the user's data directory."""
    return f"sqlite:///{platformdirs.user_data_path('regwarden', appauthor=False) / 'regwarden.sqlite3'}"


def read_secret(registry: RegistrySettings, loaded: LoadedSettings, environ: Mapping[str, str]) -> Secret | None:
    """The configured password of a registry, from the environment or its file; ``None`` if none is configured.

    Raises ``InputError`` when it is configured but cannot be read.
    """
    if registry.name in loaded.secrets:
        return loaded.secrets[registry.name]
    if registry.password_env:
        if registry.password_env not in environ:
            raise InputError(
                f"the password of registry {registry.name} should be in the environment variable "
                f"{registry.password_env}, which is not set",
                hint=f"Set {registry.password_env}, or use password_file.",
            )
        return Secret(environ[registry.password_env])
    return read_secret_file(Path(registry.password_file).expanduser()) if registry.password_file else None


def read_secret_file(path: Path) -> Secret:
    """The first line of a file, as a secret. Raises ``InputError`` when it cannot be read or is empty."""
    first = _read_text(path).split("\n", 1)[0].rstrip("\r")
    if not first:
        raise InputError(f"the password file {path} is empty", hint="Write the password into its first line.")
    return Secret(first)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {(error.strerror or 'failed').lower()}", hint="Check the name and the permissions."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8", hint="Is this the file you meant?") from None


def _parse_toml(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{path} is not valid TOML: {error}",
            hint="`regwarden config default` prints a complete file to start from.",
        ) from None


def _check_keys(document: Mapping[str, Any], lines: Lines) -> None:
    """Refuse unknown keys, naming the nearest known one."""
    _check_table(document, Settings, ("", 0), lines)


def _check_table(table: Mapping[str, Any], model: type[msgspec.Struct], where: tuple[str, int], lines: Lines) -> None:
    """``where`` is the path of the table, empty for the top of the file, and which one of several it is."""
    section, number = where
    known, inner_tables = own_fields(model), tables_of(model)
    for key, value in table.items():
        name = f"{section}.{key}" if section else key
        if key in inner_tables:
            inner, is_repeated = inner_tables[key]
            for place, entry in enumerate(_entries(name, value, is_repeated=is_repeated)):
                _check_table(entry, inner, (name, place), lines)
        elif key not in known:
            hint = nearest(key, (*known, *inner_tables))
            if section == "registry" and key in {"password", "token"}:
                hint = "Secrets are not written into this file; use password_file or password_env."
            raise InputError(f"{lines.place(section, key, number)}: there is no setting {name}", hint=hint)


def _entries(name: str, value: object, *, is_repeated: bool) -> list[dict[str, Any]]:
    """The tables at ``name``; raises ``InputError`` if something else stands there."""
    if is_repeated:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise InputError(f"{name} must be a list of tables", hint=f"Write [[{name}]] with two brackets.")
        return value
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a table", hint=f"Write [{name}] on a line of its own.")
    return [value]


def _convert(document: Mapping[str, Any], lines: Lines, origins: Mapping[str, str]) -> Settings:
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise located(str(error), lines) from None
    return check_settings(settings, lines, origins)


def revise_registry(registry: RegistrySettings, changes: Mapping[str, Any]) -> RegistrySettings:
    """The registry with ``changes``, for which the same bounds hold as in a file; else ``InputError``."""
    revised = msgspec.structs.asdict(msgspec.structs.replace(registry, **changes))
    try:
        return msgspec.convert(revised, RegistrySettings)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InputError(f"{path.rstrip('`')} {in_words(problem)}", hint=DEFAULT_HINT) from None
