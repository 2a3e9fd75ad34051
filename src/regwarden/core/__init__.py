"""Everything that decides: no I/O, no clock, no logging. ``now`` is always an argument."""
