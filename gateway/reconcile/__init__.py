"""The books against the node's own lists, payment hash by payment hash."""
