"""Everything imports, on whichever Python runs the tests, and only one file touches LND's stubs."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import gateway
import ledger
import lightning

ROOT = Path(gateway.__file__).parents[1]
MODULES = sorted(
    module.name
    for package in (gateway, ledger, lightning)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_it_imports(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def test_one_file_imports_the_stubs() -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in ("gateway", "ledger", "lightning")
        for path in (ROOT / package).rglob("*.py")
        if "lndgrpc" in path.read_text()
    }
    assert users == {"lightning/stubs.py"}
