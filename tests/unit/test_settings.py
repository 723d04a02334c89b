"""Settings: their order, their secrets, and one line for a wrong one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.fiat.keep import max_age_s
from gateway.fiat.source import Source, source_of
from gateway.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LISTEN", "CONFIG", "OPERATOR_KEY", "OPERATOR_KEY_FILE", "DATABASE_URL", "WEBHOOK_SECRET"):
        monkeypatch.delenv(f"BOLTWORKS_{name}", raising=False)
    monkeypatch.setenv("BOLTWORKS_DATA_DIR", str(tmp_path / "data"))


def test_environment_before_dotenv_before_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boltworks.toml").write_text(
        '[settings]\nlisten = "127.0.0.1:1"\nlease_s = 21\ninvoice_expiry_s = 31\n'
    )
    (tmp_path / ".env").write_text("BOLTWORKS_LISTEN=127.0.0.1:2\nBOLTWORKS_LEASE_S=22\nREGTEST_OTHER=1\n")
    monkeypatch.setenv("BOLTWORKS_LISTEN", "127.0.0.1:3")
    settings = load_settings()
    assert (settings.listen, settings.lease_s, settings.invoice_expiry_s) == ("127.0.0.1:3", 22, 31)


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    first, second = load_settings(), load_settings()
    assert first.token_secret.get_secret_value() == second.token_secret.get_secret_value()
    kept = tmp_path / "data/secrets/token_secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert first.token_secret.get_secret_value() not in repr(first)


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("k" * 40 + "\n")
    monkeypatch.setenv("BOLTWORKS_OPERATOR_KEY_FILE", str(tmp_path / "key"))
    assert load_settings().operator_key.get_secret_value() == "k" * 40


def test_so_may_an_address_that_holds_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text(FIAT["BOLTWORKS_FIAT_URL"] + "\n")
    for name in ("BOLTWORKS_FIAT_CURRENCY", "BOLTWORKS_FIAT_POINTER"):
        monkeypatch.setenv(name, FIAT[name])
    monkeypatch.setenv("BOLTWORKS_FIAT_URL_FILE", str(tmp_path / "url"))
    assert source_of(load_settings()) == Source("EUR", FIAT["BOLTWORKS_FIAT_URL"], "/eur")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN", "nowhere"),
        ("LISTEN", "127.0.0.1:99999"),
        ("INVOICE_EXPIRY_S", "soon"),
        ("INVOICE_EXPIRY_S", "0"),
        ("DATABASE_URL", "mysql://x"),
        ("WEBHOOK_SECRET", "whsec_short"),
        ("TOKEN_SECRET", "short"),
        ("PUBLIC_URL", "ftp://x"),
        ("CONFIG", "/there/is/no/such.toml"),
        ("LOG_FORMAT", "xml"),
        ("OPERATOR_KEY_FILE", "/there/is/no/such"),
        ("FIAT_CURRENCY", "euro"),
        ("FIAT_CURRENCY", "BTC"),
        ("FIAT_URL", "ftp://prices.example"),
        ("FIAT_URL", "https://prices.example:99999/"),
        ("FIAT_URL", "https://[prices"),
        ("FIAT_POINTER", "bitcoin.eur"),
        ("FIAT_REFRESH_S", "0"),
        ("FIAT_MAX_AGE_S", "299"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"BOLTWORKS_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    line = str(error.value)
    assert line.startswith(f"BOLTWORKS_{name}: ")
    assert "\n" not in line


FIAT = {
    "BOLTWORKS_FIAT_CURRENCY": "EUR",
    "BOLTWORKS_FIAT_URL": "https://prices.example/v1?key=hidden",
    "BOLTWORKS_FIAT_POINTER": "/eur",
}


@pytest.mark.parametrize("missing", sorted(FIAT))
def test_fiat_prices_are_set_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    assert source_of(load_settings()) is None
    for name, value in FIAT.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert source_of(settings) == Source("EUR", "https://prices.example/v1?key=hidden", "/eur")
    assert "hidden" not in repr(settings)
    monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=f"^{missing}: is missing, and BOLTWORKS_FIAT_[A-Z]+ is set$"):
        load_settings()


def test_fiat_prices_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "boltworks.toml").write_text(
        '[settings]\nfiat_currency = "EUR"\nfiat_url = "http://127.0.0.1:1/"\nfiat_pointer = ""\nfiat_refresh_s = 60\n'
    )
    settings = load_settings()
    assert source_of(settings) == Source("EUR", "http://127.0.0.1:1/", "")
    assert max_age_s(settings) == 900
    assert max_age_s(settings.model_copy(update={"fiat_refresh_s": 600})) == 1800
    assert max_age_s(settings.model_copy(update={"fiat_max_age_s": 60})) == 60


def test_an_unknown_setting_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "boltworks.toml").write_text("[settings]\nlistne = 1\n")
    with pytest.raises(SettingsError, match=r"settings\.listne"):
        load_settings()
