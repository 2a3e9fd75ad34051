"""The predecessors' HTTP interfaces, as their clients know them."""
