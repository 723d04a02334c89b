"""What is asked before a `command` work may be sold: the right machine, and no secret in its sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.catalogue.model import CommandWork
from gateway.settings import Settings, load_settings
from gateway.work import command_check
from gateway.work.command_check import missing_on, shows_a_secret


def entry(*visible: Path) -> CommandWork:
    price = {"per_cpu_second_sats": 5, "max_cpu_s": 20}
    table = {"name": "x", "worker": "command", "command": ["wc"], "visible": [str(path) for path in visible]}
    return CommandWork.model_validate({**table, "price": price})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not under /tmp, where a command has a folder of its own: the look follows a link."""
    monkeypatch.chdir(tmp_path)
    for name in ("BOLTWORKS_CONFIG", "BOLTWORKS_DATA_DIR", "BOLTWORKS_LND_MACAROON"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settings(place: Path) -> Settings:
    (place / "node").mkdir()
    (place / "node" / "gateway.macaroon").write_bytes(b"m")
    (place / "shop.toml").touch()
    (place / ".env").touch()
    return load_settings(
        data_dir=place / "data", lnd_macaroon=place / "node" / "gateway.macaroon", config=place / "shop.toml"
    )


def shown(place: Path, path: Path) -> str | None:
    return shows_a_secret(entry().model_copy(update={"visible": (str(path),)}), settings(place))


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("data", "BOLTWORKS_DATA_DIR"),
        ("data/deep/inside", "BOLTWORKS_DATA_DIR"),
        (".", "BOLTWORKS_DATA_DIR"),
        ("node", "BOLTWORKS_LND_MACAROON"),
        ("node/gateway.macaroon", "BOLTWORKS_LND_MACAROON"),
        ("shop.toml", "BOLTWORKS_CONFIG"),
        (".env", ".env"),
        ("secrets/key", "BOLTWORKS_OPERATOR_KEY_FILE"),
        ("link", "BOLTWORKS_DATA_DIR"),
        ("tools", None),
        ("database", None),
    ],
)
def test_no_secret_in_sight(place: Path, monkeypatch: pytest.MonkeyPatch, path: str, secret: str | None) -> None:
    (place / "secrets").mkdir()
    (place / "secrets" / "key").write_text("k" * 32, encoding="utf-8")
    monkeypatch.setenv("BOLTWORKS_OPERATOR_KEY_FILE", str(place / "secrets" / "key"))
    (place / "link").symlink_to("data/deep")
    told = shown(place, place / path)
    assert told is None if secret is None else told is not None and told.startswith(f"it would see {secret} (")


def test_the_systems_own_folders_are_no_place_for_secrets(place: Path) -> None:
    inside = settings(place).model_copy(update={"data_dir": Path("/usr/local/boltworks")})
    assert (told := shows_a_secret(entry(), inside)) is not None
    assert told.startswith("it would see BOLTWORKS_DATA_DIR (/usr/local/boltworks) in /usr")


def test_only_linux_has_namespaces() -> None:
    assert "only Linux" in str(missing_on("darwin"))
    assert "only Linux" in str(missing_on("win32"))


def test_tools_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command_check, "TOOLS_PATH", str(tmp_path))
    assert missing_on("linux") == "unshare, setpriv, mount, umount, pivot_root (of the package util-linux) is missing"
