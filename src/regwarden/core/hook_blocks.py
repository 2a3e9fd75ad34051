"""What must be written where, so that events arrive? Blocks for a registry's configuration and for our own.

Facts: the ``notifications`` section of Distribution's configuration
(https://distribution.github.io/distribution/about/configuration/#notifications) and ``registry['notifications']`` of
GitLab's Omnibus package, whose registry takes the same endpoints with ``maxretries`` instead of ``threshold``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from regwarden.core.hosts import normalise_host
from regwarden.core.oci.media_types import ANY_BLOB

HOOK_PATH: Final = "/hooks/"
PLACEHOLDER: Final = "SECRET"

_TIMEOUT: Final = "2s"
_BACKOFF: Final = "5s"
_THRESHOLD: Final = 5
_MAX_RETRIES: Final = 10
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104 - compared with, not listened on
_HOST: Final = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]{0,254}")


class Form(StrEnum):
    """Which events the registry shall send: ``LEAN`` those of manifests and tags, ``FULL`` those of blobs too."""

    LEAN = "lean"
    FULL = "full"


class Flavour(StrEnum):
    """For whose configuration the block is."""

    DISTRIBUTION = "distribution"
    GITLAB = "gitlab"


@dataclass(frozen=True, slots=True)
class Listening:
    """The address of a listener as a URL, and whether only this machine reaches it."""

    url: str
    is_local: bool
    is_everywhere: bool


def notification_block(url: str, secret: str, *, form: Form, flavour: Flavour) -> str:
    """The text to paste: YAML for Distribution 2.x and 3.x, Ruby for ``gitlab.rb``; ends with a newline.

    ``url`` is that of ``hook_url``; it must be the final one, because a registry that is redirected loses events.
    """
    if flavour is Flavour.GITLAB:
        return _gitlab_block(url, secret, form)
    lines = [
        "notifications:",
        "  events:",
        "    includereferences: true",
        "  endpoints:",
        "    - name: regwarden",
        f"      url: {json.dumps(url)}",
        "      headers:",
        f"        Authorization: [{json.dumps(f'Bearer {secret}')}]",
        f"      timeout: {_TIMEOUT}",
        f"      threshold: {_THRESHOLD}",
        f"      backoff: {_BACKOFF}",
    ]
    if form is Form.LEAN:
        lines.append(f"      ignoredmediatypes: [{ANY_BLOB}]")
    return "\n".join(lines) + "\n"


def _gitlab_block(url: str, secret: str, form: Form) -> str:
    lines = [
        "registry['notifications'] = [",
        "  {",
        "    'name' => 'regwarden',",
        f"    'url' => {_ruby(url)},",
        f"    'headers' => {{ 'Authorization' => [{_ruby(f'Bearer {secret}')}] }},",
        f"    'timeout' => '{_TIMEOUT}',",
        f"    'maxretries' => {_MAX_RETRIES},",
        f"    'backoff' => '{_BACKOFF}',",
    ]
    if form is Form.LEAN:
        lines.append(f"    'ignoredmediatypes' => ['{ANY_BLOB}'],")
    return "\n".join([*lines, "  },", "]"]) + "\n"


def _ruby(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def hook_url(address: str, registry: str) -> str:
    """Where a registry sends its events, below the address at which it reaches the service."""
    path = HOOK_PATH + quote(registry, safe=":/[]")
    bare = address.rstrip("/")
    return bare if bare.endswith(path) else bare + path


def find_listening(listen: Sequence[str], *, has_tls: bool) -> Listening | None:
    """The first of the service's listeners that another machine can name; ``None`` if there are only sockets."""
    for address in listen:
        host, separator, port = address.rpartition(":")
        if address.startswith("unix:") or not separator:
            continue
        is_everywhere = host.strip("[]") in _EVERYWHERE
        is_local = host.strip("[]") in {"localhost", "::1"} or host.startswith("127.")
        shown = "REGWARDEN-HOST" if is_everywhere else host
        return Listening(f"{'https' if has_tls else 'http'}://{shown}:{port}", is_local, is_everywhere)
    return None


def registry_block(host: str) -> str:
    """What configures the registry at ``host``, as TOML; empty where that cannot be a host."""
    name = normalise_host(host)
    if not _HOST.fullmatch(name):
        return ""
    return f'[[registry]]\nname = "{name}"\nurl = "https://{name}"\n'


def alias_line(host: str) -> str:
    """What makes ``host`` another name of a registry that is configured, as TOML; empty where it cannot be one."""
    name = normalise_host(host)
    return f'aliases = ["{name}"]' if _HOST.fullmatch(name) else ""
