"""``python -m regwarden`` and the ``regwarden`` command."""

from __future__ import annotations

from regwarden.cli.main import main

if __name__ == "__main__":
    main()
