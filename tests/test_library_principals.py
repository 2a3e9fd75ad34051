"""Who is recorded as the one who planned and agreed."""

from __future__ import annotations

import os
import pwd

from regwarden.library_principals import os_user


def test_the_system_says_who_it_is_and_no_variable_of_the_environment(monkeypatch):
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert os_user() == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_a_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_123)
    assert os_user() == "uid 4000123"
