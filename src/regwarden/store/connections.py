"""What do the functions of the store work on? The one name that callers need to pass a connection through."""

from __future__ import annotations

from sqlalchemy.engine import Connection

__all__ = ["Connection"]
