"""The operator's catalogue, one TOML file: what is sold at what price, and what pool and tiers may give."""

from gateway.catalogue.load import CatalogueError, load_catalogue
from gateway.catalogue.model import Catalogue, WorkEntry

__all__ = ["Catalogue", "CatalogueError", "WorkEntry", "load_catalogue"]
