"""The operator's catalogue: what is sold, at what price, and the pool's and tiers' settings, read from one TOML file."""

from gateway.catalogue.load import CatalogueError, load_catalogue
from gateway.catalogue.model import Catalogue, WorkEntry

__all__ = ["Catalogue", "CatalogueError", "WorkEntry", "load_catalogue"]
