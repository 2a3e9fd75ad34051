"""Which settings do ``REGWARDEN_…`` variables of the environment overrule?

``REGWARDEN_<TABLE>_<KEY>`` for every table of the file, ``REGWARDEN_REGISTRY_<NAME>_<KEY>`` for a registry.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from regwarden.errors import InputError
from regwarden.settings import RegistrySettings, Secret, Settings
from regwarden.settings_mistakes import in_words
from regwarden.settings_shape import Section, own_fields, sections

_PREFIX: Final = "REGWARDEN_"
_REGISTRY_PREFIX: Final = "REGWARDEN_REGISTRY_"
# How alike the name of an unknown variable and that of a setting must be to be taken for a slip (0 to 1).
_RESEMBLANCE: Final = 0.75
# Read elsewhere, or by nobody: the version says how the file is written.
_NOT_OVERRULED: Final = frozenset({"version"})


def environment_name(registry: str) -> str:
    """How a registry's name is written in environment variables: capitals, everything else an underscore."""
    return re.sub(r"[^A-Z0-9]", "_", registry.upper())


def apply_environment(
    document: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> tuple[dict[str, Secret], list[str]]:
    """Overwrite values of ``document`` with those of ``REGWARDEN_…`` variables; return secrets and warnings.

    Raises ``InputError`` for a value of the wrong type and for a name that is nearly that of a setting.
    """
    warnings: list[str] = []
    secrets: dict[str, Secret] = {}
    known = _variables()
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        value = environ[variable]
        if variable.startswith(_REGISTRY_PREFIX):
            name = _set_registry_value(document, variable, value, origins)
            if name is None:
                warnings.append(f"{variable} names no configured registry and setting; it is ignored")
            elif variable.endswith("_PASSWORD"):
                secrets[name] = Secret(value)
        elif variable in known:
            section, key = known[variable]
            _table(document, section)[key] = _from_text(section.model, key, value, variable)
            origins[f"{section.path}.{key}".lstrip(".")] = f"environment {variable}"
        elif variable != "REGWARDEN_CONFIG":
            warnings.append(_judge_unknown(variable, known))
    return secrets, warnings


def _variables() -> dict[str, tuple[Section, str]]:
    """The setting that each variable sets, those of registries excepted."""
    found = {
        f"{_PREFIX}{key.upper()}": (Section("", Settings), key)
        for key in own_fields(Settings)
        if key not in _NOT_OVERRULED
    }
    for section in sections():
        if not section.is_repeated:
            prefix = f"{_PREFIX}{environment_name(section.path)}_"
            found |= {f"{prefix}{key.upper()}": (section, key) for key in own_fields(section.model)}
    return found


def _table(document: dict[str, Any], section: Section) -> dict[str, Any]:
    place = document
    for step in filter(None, section.path.split(".")):
        place = place.setdefault(step, {})
    return place


def _judge_unknown(variable: str, known: Iterable[str]) -> str:
    """The warning about a variable that is not ours; one that is nearly ours is a mistake, an ``InputError``."""
    names = [name.removeprefix(_PREFIX) for name in (*known, "REGWARDEN_CONFIG")]
    if difflib.get_close_matches(variable.removeprefix(_PREFIX), names, 1, _RESEMBLANCE):
        raise _no_such_variable(variable, [f"{_PREFIX}{name}" for name in names])
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
        problem = in_words(str(error), given=repr(text[:80]))
        raise InputError(f"{variable} {problem}", hint="Correct or unset the variable.") from None
