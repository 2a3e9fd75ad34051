"""What Alembic runs round every migration: our connection, our metadata, our version table."""

from __future__ import annotations

from alembic import context

from regwarden.store.event_schema import deliveries
from regwarden.store.migrations import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=deliveries.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
