"""The imperative shell: one straight pipeline per file."""
