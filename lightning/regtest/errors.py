"""What the network says when it can not."""

from __future__ import annotations


class RegtestError(Exception):
    """The network cannot do what was asked; the text is for a person."""
