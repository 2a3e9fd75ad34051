"""``/api/v1``: everything the command line can ask or do, over HTTP."""
