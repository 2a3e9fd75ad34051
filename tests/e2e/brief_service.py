"""`regwarden`, but the streams that it sends end after a fifth of a second: a client that tries everything gets on.

python brief_service.py serve --config … --database …
"""

from __future__ import annotations

from regwarden.cli.main import main
from regwarden.web.api.streams import EventStream

STREAM_SECONDS = 0.2

if __name__ == "__main__":
    lengths = EventStream.__init__.__kwdefaults__
    if lengths is None or "max_seconds" not in lengths:
        raise AttributeError("EventStream has no max_seconds")
    lengths["max_seconds"] = lengths["heartbeat_seconds"] = STREAM_SECONDS
    main()
