"""Everything that talks to a registry. ``api`` is the contract, one folder per kind carries it out."""
