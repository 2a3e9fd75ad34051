"""Where settings come from, in rising order: defaults, one TOML file, the environment, the command line.

Every value keeps its source, so that ``config show`` can name it and a mistake is reported with file and line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
import platformdirs

from regwarden.errors import InputError
from regwarden.settings import (
    Defaults,
    RegistrySettings,
    Secret,
    Settings,
    check_registry_name,
    parse_registry_url,
)

SYSTEM_FILE: Final = Path("/etc/regwarden/regwarden.toml")
FILE_NAME: Final = "regwarden.toml"
_PREFIX: Final = "REGWARDEN_"
_REGISTRY_PREFIX: Final = "REGWARDEN_REGISTRY_"
_DEFAULTS: Final = Defaults.__struct_fields__
_KIND_NAMES: Final = {"int": "a whole number", "float": "a number", "str": "text in quotes", "bool": "true or false"}
# How alike the name of an unknown variable and that of a setting must be to be taken for a slip (0 to 1).
_RESEMBLANCE: Final = 0.75
_KIND_NAMES_MORE: Final = {"array": "a list in brackets", "object": "a table", "null": "nothing"}


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
    lines = _Lines(text, path)
    _check_keys(document, lines)
    origins = lines.origins(document)
    secrets, warnings = _apply_environment(document, environ, origins)
    if database is not None:
        document["database"], origins["database"] = database, "--database"
    settings = _convert(document, lines)
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


def environment_name(registry: str) -> str:
    """How a registry's name is written in environment variables: capitals, everything else an underscore."""
    return re.sub(r"[^A-Z0-9]", "_", registry.upper())


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


class _Lines:
    """Finds the line of a key in a TOML text, for messages."""

    def __init__(self, text: str, path: Path | None) -> None:
        self._lines = text.splitlines()
        self._path = path

    def place(self, section: str, key: str, occurrence: int = 0) -> str:
        """``file FILE:LINE`` of ``key`` in ``[section]`` (the nth ``[[section]]``), or the file alone."""
        current, seen = "", -1
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[+\s*([\w.\"-]+)\s*\]+", line):
                current = header[1].strip('"')
                seen += current == section
            named = re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line)
            if named and named[1] == key and current == section and (not section or seen == occurrence):
                return f"{self._path}:{number}"
        return str(self._path)

    def origins(self, document: Mapping[str, Any]) -> dict[str, str]:
        """The source of every value of a checked document."""
        found = {key: f"file {self.place('', key)}" for key in document if key not in {"defaults", "registry"}}
        for key in document.get("defaults", {}):
            found[f"defaults.{key}"] = f"file {self.place('defaults', key)}"
        for number, registry in enumerate(document.get("registry", ())):
            for key in registry:
                found[f"registry.{registry.get('name', number)}.{key}"] = f"file {self.place('registry', key, number)}"
        return found


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


def _check_keys(document: Mapping[str, Any], lines: _Lines) -> None:
    """Refuse unknown keys, naming the nearest known one."""
    _check_table(document, Settings, ("", 0), lines)
    defaults, registries = document.get("defaults", {}), document.get("registry", [])
    if not isinstance(defaults, dict):
        raise InputError("defaults must be a table", hint="Write [defaults] on a line of its own.")
    if not isinstance(registries, list) or not all(isinstance(entry, dict) for entry in registries):
        raise InputError("registry must be a list of tables", hint="Write [[registry]] with two brackets.")
    _check_table(defaults, Defaults, ("defaults", 0), lines)
    for number, registry in enumerate(registries):
        _check_table(registry, RegistrySettings, ("registry", number), lines)


def _check_table(table: Mapping[str, Any], model: type[msgspec.Struct], where: tuple[str, int], lines: _Lines) -> None:
    section, number = where
    for key in table:
        if key in model.__struct_fields__:
            continue
        hint = nearest(key, model.__struct_fields__)
        if section == "registry" and key in {"password", "token"}:
            hint = "Secrets are not written into this file; use password_file or password_env."
        name = f"{section}.{key}" if section else key
        raise InputError(f"{lines.place(section, key, number)}: there is no setting {name}", hint=hint)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words, or all of them."""
    words = list(known)
    close = difflib.get_close_matches(word, words, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(words)}."


def _apply_environment(
    document: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> tuple[dict[str, Secret], list[str]]:
    """Overwrite values of ``document`` with those of ``REGWARDEN_…`` variables; return secrets and warnings."""
    warnings: list[str] = []
    secrets: dict[str, Secret] = {}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        value = environ[variable]
        if variable.startswith(_REGISTRY_PREFIX):
            name = _set_registry_value(document, variable, value, origins)
            if name is None:
                warnings.append(f"{variable} names no configured registry and setting; it is ignored")
            elif variable.endswith("_PASSWORD"):
                secrets[name] = Secret(value)
        elif variable.startswith("REGWARDEN_DEFAULTS_"):
            key = variable.removeprefix("REGWARDEN_DEFAULTS_").lower()
            if key in _DEFAULTS:
                document.setdefault("defaults", {})[key] = _from_text(Defaults, key, value, variable)
                origins[f"defaults.{key}"] = f"environment {variable}"
            else:
                raise _no_such_variable(variable, [f"REGWARDEN_DEFAULTS_{name.upper()}" for name in _DEFAULTS])
        elif variable == "REGWARDEN_DATABASE":
            document["database"], origins["database"] = value, f"environment {variable}"
        elif variable != "REGWARDEN_CONFIG":
            warnings.append(_judge_unknown(variable))
    return secrets, warnings


def _judge_unknown(variable: str) -> str:
    """The warning about a variable that is not ours; one that is nearly ours is a mistake, an ``InputError``."""
    known = ["DATABASE", "CONFIG", *(f"DEFAULTS_{name.upper()}" for name in _DEFAULTS)]
    word = variable.removeprefix(_PREFIX)
    if difflib.get_close_matches(word, known, 1, _RESEMBLANCE):
        raise _no_such_variable(variable, [f"{_PREFIX}{name}" for name in known])
    return f"{variable} is not a setting; it is ignored"


def _no_such_variable(variable: str, known: Iterable[str]) -> InputError:
    close = difflib.get_close_matches(variable, list(known), 1)
    hint = f"Did you mean {close[0]}?" if close else "`regwarden config show` names every setting."
    return InputError(f"the environment variable {variable} is not a setting", hint=hint)


def _set_registry_value(document: dict[str, Any], variable: str, value: str, origins: dict[str, str]) -> str | None:
    """Put the value of ``REGWARDEN_REGISTRY_<NAME>_<KEY>`` into place; the registry's name, or ``None``."""
    fields = (*(name for name in RegistrySettings.__struct_fields__ if name != "name"), "password")
    slips: list[tuple[str, list[str]]] = []  # a name that begins like a registry's can be that of a longer one
    for registry in document.get("registry", ()):
        prefix = f"{_REGISTRY_PREFIX}{environment_name(str(registry.get('name', '')))}_"
        key = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix):
            continue
        if key not in fields:
            slips.append((variable, [f"{prefix}{name.upper()}" for name in fields]))
            continue
        if key != "password":
            registry[key] = _from_text(RegistrySettings, key, value, variable)
        origins[f"registry.{registry['name']}.{key}"] = f"environment {variable}"
        return str(registry["name"])
    if slips:
        raise _no_such_variable(*slips[0])
    return None


def _from_text(model: type[msgspec.Struct], key: str, text: str, variable: str) -> object:
    """The value of an environment variable in the type of its setting; lists are separated by commas."""
    kind = get_type_hints(model, include_extras=True)[key]
    if "tuple" in str(kind):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        problem = _problem(str(error), given=repr(text[:80]))
        raise InputError(f"{variable} {problem}", hint="Correct or unset the variable.") from None


def _convert(document: Mapping[str, Any], lines: _Lines) -> Settings:
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise _located(str(error), lines) from None
    return _check_registries(settings, lines)


def _located(message: str, lines: _Lines) -> InputError:
    """Turn msgspec's message with its path into ours with file, line and key."""
    problem, _, path = message.partition(" - at ")
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    names = [name for name, _ in steps if name]
    numbers = [int(number) for _, number in steps if number]
    section, key = (names[0], names[-1]) if len(names) > 1 else ("", names[-1] if names else "")
    if missing := re.search(r"missing required field `(\w+)`", problem):
        return InputError(
            f"{lines.place('', '')}: registry number {numbers[0] + 1} has no {missing[1]}",
            hint=f'Add {missing[1]} = "…" below [[registry]].',
        )
    place = lines.place(section, key, numbers[0] if section == "registry" and numbers else 0)
    label = f"{section}.{key}" if section else key
    hint = "`regwarden config default` explains every setting."
    return InputError(f"{place}: {label} {_problem(problem)}", hint=hint)


def revise_registry(registry: RegistrySettings, changes: Mapping[str, Any]) -> RegistrySettings:
    """The registry with ``changes``, for which the same bounds hold as in a file; else ``InputError``."""
    revised = msgspec.structs.asdict(msgspec.structs.replace(registry, **changes))
    try:
        return msgspec.convert(revised, RegistrySettings)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        hint = "`regwarden config default` explains every setting."
        raise InputError(f"{path.rstrip('`')} {_problem(problem)}", hint=hint) from None


def _problem(message: str, *, given: str = "") -> str:
    """What msgspec calls "Expected `int`, got `str`", in a user's words; ``given`` is what stands there."""
    kinds = {**_KIND_NAMES, **_KIND_NAMES_MORE}
    expected = re.match(r"Expected `(\w+)`(?: (<=|>=|<|>) (\S+))?(?:, got `(\w+)`)?", message)
    if not expected:
        return f"is not valid ({message})"
    kind, operator, bound, got = expected.groups()
    bounds = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
    limit = f" of {bounds[operator]} {bound}" if operator else ""
    got = given or kinds.get(got, got)
    ending = f", not {got}" if got else ""
    return f"must be {kinds.get(kind, kind)}{limit}{ending}"


def _check_registries(settings: Settings, lines: _Lines) -> Settings:
    """Normalise addresses; names and addresses must be unique."""
    checked: list[RegistrySettings] = []
    for number, registry in enumerate(settings.registry):
        place = lines.place("registry", "url", number)
        try:
            check_registry_name(registry.name)
            url = parse_registry_url(registry.url)
        except InputError as error:
            raise InputError(f"{place}: {error.message}", hint=error.hint, code=error.code) from None
        _check_kind(registry, place)
        for other in checked:
            if registry.name == other.name or url == other.url:
                what = f"name {registry.name}" if registry.name == other.name else f"address {url}"
                raise InputError(f"{place}: two registries have the {what}", hint="Remove one of them.")
        checked.append(msgspec.structs.replace(registry, url=url))
    return msgspec.structs.replace(settings, registry=tuple(checked))


def _check_kind(registry: RegistrySettings, place: str) -> None:
    if registry.kind != "distribution":
        raise InputError(
            f"{place}: {registry.kind!r} is not a kind of registry that Regwarden knows",
            hint='Write kind = "distribution".',
        )
    if registry.password_file and registry.password_env:
        raise InputError(
            f"{place}: registry {registry.name} has password_file and password_env", hint="Keep one of them."
        )
    if (registry.password_file or registry.password_env) and not registry.username:
        raise InputError(
            f"{place}: registry {registry.name} has a password but no username", hint='Add username = "…".'
        )
