"""Everything that talks to a database; the only SQL of the project."""
