"""Settings of the service that cannot work are refused with the key named."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.settings_sources import load_settings


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[auth]\naccess_lifetime = "2h"', "auth.access_lifetime"),
        ('[auth]\naccess_lifetime = "soon"', "auth.access_lifetime"),
        ('[auth]\nrefresh_lifetime = "1m"', "auth.refresh_lifetime"),
        ('[auth]\nrefresh_lifetime = "100d"', "auth.refresh_lifetime"),
        ('[allow]\ndefault = "maybe"', "allow.default"),
        ('[allow]\ntags = "latest"', "allow.tags"),
        ('[allow]\nsettled_after = "x"', "allow.settled_after"),
        ('[allow]\nstale_after = "x"', "allow.stale_after"),
        ('[allow]\nkeep_decisions = "x"', "allow.keep_decisions"),
        ('[compat.imagelist]\nlisten = "127.0.0.1:8350"', "compat.imagelist.listen"),
        (
            '[compat]\nimagelist.listen = "[::1]:80"\ngitlab_registry_usage_rest.listen = "[::1]:80"',
            "compat.gitlab_registry_usage_rest.listen",
        ),
        (
            '[compat.imagelist]\nenabled = true\nunauthenticated_writes = true\ntokens_file = "/x"',
            "compat.imagelist.unauthenticated_writes",
        ),
        ('[[role]]\nrole = "owner"\neveryone = true', "role"),
        ("[server]\napi_enabled = 3", "server.api_enabled"),
    ],
)
def test_what_cannot_work_is_refused_and_named(tmp_path: Path, text: str, place: str):
    file = tmp_path / "regwarden.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings({}, file=file)
    assert place in caught.value.message
    assert str(file) in caught.value.message
