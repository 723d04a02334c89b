"""All settings, read once into one frozen object. A wrong one stops the start with one line that names it.

Order: environment, then `.env`, then the `[settings]` table of the TOML file. Secrets may come from files
(`BOLTWORKS_OPERATOR_KEY_FILE=…`); unset ones are generated once and kept in `DATA_DIR/secrets`, mode 0600.
"""

from __future__ import annotations

import base64
import os
import secrets
import tomllib
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from babel.numbers import is_currency
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from gateway.fiat.rate import is_pointer
from ledger.money import MAX_SATS

PREFIX = "BOLTWORKS_"
SECRET_NAMES = ("webhook_secret", "worker_secret", "token_secret", "operator_key")


class SettingsError(Exception):
    """One plain line: which setting, and what is wrong with it."""


def default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/boltworks")
    return Path.home() / ".local/share/boltworks"


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must be host:port, for example 127.0.0.1:8420")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address, for example https://pay.example.org")
    return value.rstrip("/")


def _source_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or parts.port == 0:
        raise ValueError("must be an http(s) address that answers JSON")
    return value


def _currency(value: str) -> str:
    if not is_currency(value):
        raise ValueError("must be the code of a currency (ISO 4217), for example EUR")
    return value


def _pointer(value: str) -> str:
    if not is_pointer(value):
        raise ValueError("must be a JSON pointer (RFC 6901), for example /bitcoin/eur")
    return value


def _database_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise ValueError("must be postgresql://user:password@host:port/database")
    return value


def _whsec(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("must be whsec_ and the base64 of 24 to 64 bytes")
    return value


def _long_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("must have 16 characters or more")
    return value


def _names(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        ip_network(network, strict=False)
    return value


WebhookSecret = Annotated[SecretStr, AfterValidator(_whsec)]
LongSecret = Annotated[SecretStr, AfterValidator(_long_secret)]


class Settings(BaseSettings):
    """Names without the prefix, units last. Amounts in sats or msat, times in seconds."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    config: Path | None = None
    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(default_factory=default_data_dir)
    cache_dir: Path | None = None
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8420"
    public_url: Annotated[str, AfterValidator(_url)] | None = None
    webhook_url: Annotated[str, AfterValidator(_url)] | None = None

    lnd_host: Annotated[str, AfterValidator(_listen)] | None = None
    lnd_tls_cert: Path | None = None
    lnd_macaroon: Path | None = None

    webhook_secret: WebhookSecret
    worker_secret: WebhookSecret
    token_secret: LongSecret
    operator_key: LongSecret

    invoice_expiry_s: int = Field(600, ge=1, le=86_400)
    open_invoices_per_address: int = Field(100, ge=1, le=100_000)
    open_invoices_total: int = Field(20_000, ge=1, le=1_000_000)
    sweep_interval_s: float = Field(15, gt=0, le=3600)
    lease_s: int = Field(15, ge=2, le=300)
    work_timeout_s: int = Field(600, ge=1, le=86_400)
    concurrent_works: int = Field(32, ge=20, le=1000)

    session_idle_days: int = Field(90, ge=1, le=3650)
    l402_sats: int = Field(100, ge=1, le=100_000_000)
    l402_valid_days: int = Field(30, ge=1, le=3650)

    refund_fee_limit_sats: int = Field(10, ge=0, le=1_000_000)
    refund_fee_limit_percent: Decimal = Field(Decimal(1), ge=0, le=100)
    refund_fee_budget_sats_per_day: int = Field(10_000, ge=0, le=MAX_SATS)
    refund_fee_budget_sats_per_destination: int = Field(1000, ge=0, le=MAX_SATS)
    refund_min_sats: int = Field(1, ge=1, le=1_000_000)
    refund_cltv_limit: int = Field(432, ge=288, le=2016)
    lnurl_allow_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    refunds_in_flight: int = Field(16, ge=1, le=400)
    refunds_in_flight_sats: int = Field(1_000_000, ge=1, le=MAX_SATS)

    fiat_currency: Annotated[str, AfterValidator(_currency)] | None = None
    fiat_url: Annotated[SecretStr, AfterValidator(_source_url)] | None = None
    fiat_pointer: Annotated[str, AfterValidator(_pointer)] | None = None
    fiat_refresh_s: int = Field(300, ge=10, le=86_400)
    fiat_max_age_s: int | None = Field(None, ge=10, le=7 * 86_400)

    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_networks)] = ()
    demo_wallet: bool = False
    health_file: Path | None = None
    regtest_payer_lnd_host: str | None = Field(None, validation_alias="REGTEST_PAYER_LND_HOST")
    regtest_payer_lnd_tls_cert: Path | None = Field(None, validation_alias="REGTEST_PAYER_LND_TLS_CERT")
    regtest_payer_lnd_macaroon: Path | None = Field(None, validation_alias="REGTEST_PAYER_LND_MACAROON")
    log_format: str = Field("plain", pattern="^(plain|json)$")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")

    @property
    def listen_host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def base_url(self) -> str:
        """The address under which payers reach the gateway; no trailing slash."""
        return self.public_url or f"http://{self.listen}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            SecretFiles(settings_cls),
            dotenv_settings,
            SettingsTable(settings_cls),
            KeptSecrets(settings_cls),
        )


class _WholeSource(PydanticBaseSettingsSource):
    """A source that answers all its values at once."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


class SecretFiles(_WholeSource):
    """`BOLTWORKS_X_FILE` for secrets and for addresses that may hold one."""

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in (*SECRET_NAMES, "database_url", "fiat_url"):
            key = f"{PREFIX}{name.upper()}_FILE"
            if file := os.environ.get(key):
                try:
                    values[name] = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise SettingsError(f"{key}: {error}") from None
        return values


class SettingsTable(_WholeSource):
    """The `[settings]` table of the TOML file named by `config`, default `boltworks.toml`."""

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("config")
        path = Path(named) if named else Path("boltworks.toml")
        if not path.exists():
            if named:
                raise SettingsError(f"{PREFIX}CONFIG: there is no file {named}")
            return {}
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal).get("settings", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SettingsError(f"{path}: {error}") from None
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: settings must be a table")
        if unknown := set(table) - set(Settings.model_fields):
            raise SettingsError(f"{path}: settings.{min(unknown)} is not a setting")
        return {"config": path, **table}


class KeptSecrets(_WholeSource):
    """Secrets that nobody set: generated on first use, kept in `DATA_DIR/secrets`."""

    def __call__(self) -> dict[str, Any]:
        data_dir = Path(self.current_state.get("data_dir") or default_data_dir()).expanduser().absolute()
        missing = [name for name in SECRET_NAMES if name not in self.current_state]
        return {name: kept_secret(data_dir, name) for name in missing}


def load_settings(**overrides: Any) -> Settings:
    """Read everything once; `overrides` (from the command line) win. Raises SettingsError with one line."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    except SourceError as error:
        raise SettingsError(str(error)) from None
    if reason := _half_of_fiat(settings):
        raise SettingsError(reason)
    return settings


def _half_of_fiat(settings: Settings) -> str | None:
    """The three settings of fiat prices stand together or not at all. Pure."""
    wanted = {name: getattr(settings, name) for name in ("fiat_currency", "fiat_url", "fiat_pointer")}
    given = [name for name, value in wanted.items() if value is not None]
    missing = [name for name, value in wanted.items() if value is None]
    if given and missing:
        return f"{PREFIX}{missing[0].upper()}: is missing, and {PREFIX}{given[0].upper()} is set"
    if settings.fiat_max_age_s is not None and settings.fiat_max_age_s < settings.fiat_refresh_s:
        return f"{PREFIX}FIAT_MAX_AGE_S: must be {settings.fiat_refresh_s} or more, which is {PREFIX}FIAT_REFRESH_S"
    return None


def kept_secret(data_dir: Path, name: str) -> str:
    """The generated secret of that name, made on first use; two processes that race keep the same one."""
    folder = data_dir / "secrets"
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            fresh = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(_new_secret(name))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{PREFIX}DATA_DIR: {error}") from None


def _new_secret(name: str) -> str:
    if name in ("webhook_secret", "worker_secret"):
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{name.upper()}: {reason}"
