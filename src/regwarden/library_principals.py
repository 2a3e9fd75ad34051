"""Who runs this command, as the machine says? For the record of plans and approvals."""

from __future__ import annotations

import os
from importlib import import_module


def os_user() -> str:
    """The name of the user that the process runs as, by the system's own list: no environment variable is believed.

    A user without a name, as in many containers, is ``uid 1000``; where the platform has no users, ``unknown``.
    """
    try:
        users = import_module("pwd")
    except ImportError:
        return "unknown"
    number = os.getuid()
    try:
        return str(users.getpwuid(number).pw_name)
    except KeyError:
        return f"uid {number}"
