"""The command `boltworks`."""

from gateway.cli.main import main

__all__ = ["main"]
