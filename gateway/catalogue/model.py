"""`boltworks.toml` as frozen objects: `[pool]`, `[[tier]]`, `[[work]]`. Amounts are whole sats, shares Decimals."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from jsonschema.protocols import Validator
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    model_validator,
)

from gateway.catalogue.own_schemas import command_schema, http_schema, openai_schema, pdf_schema
from gateway.catalogue.schema_compile import compile_schema, has_slow_keyword
from ledger import free_tier

MAX_AMOUNT_SATS = 1_000_000_000
MAX_OUTPUT_TOKENS = 10_000_000

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_COMMANDS_OWN = ("dev", "proc", "sys", "tmp", "work")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 small letters, digits or '-', not starting with '-'")
    return value


def _environment_name(value: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(value):
        raise ValueError("must be the name of an environment variable that holds the key, not the key itself")
    return value


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("must be an http:// or https:// address")
    if parts.fragment:
        raise ValueError("must not have a fragment ('#…')")
    return value


def _decimal(value: object) -> object:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _printable_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of text")
    return value


def _argument(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain the character U+0000")
    return value


def _program_first(command: tuple[str, ...]) -> tuple[str, ...]:
    program = command[0]
    if not program or ("/" in program and not program.startswith("/")):
        raise ValueError("must begin with a program: its name, or its whole path from '/'")
    return command


def _visible_path(value: str) -> str:
    path = PurePosixPath(value)
    if not value.startswith("/") or ".." in path.parts or len(path.parts) < 2 or not value.isprintable():
        raise ValueError("must be a whole path from '/', without '..'")
    if path.parts[1] in _COMMANDS_OWN:
        raise ValueError(f"must not lie in /{path.parts[1]}: there the command has a folder of its own")
    return str(PurePosixPath("/", *path.parts[1:]))


Argument = Annotated[StrictStr, Field(max_length=10_000), AfterValidator(_argument)]
VisiblePath = Annotated[StrictStr, Field(max_length=1000), AfterValidator(_visible_path)]
Name = Annotated[StrictStr, AfterValidator(_name)]
Line = Annotated[StrictStr, Field(max_length=200), AfterValidator(_printable_line)]
HttpUrl = Annotated[StrictStr, Field(max_length=2000), AfterValidator(_http_url)]
PriceSats = Annotated[StrictInt, Field(ge=1, le=MAX_AMOUNT_SATS)]
LimitSats = Annotated[StrictInt, Field(ge=0, le=MAX_AMOUNT_SATS)]
Share = Annotated[Decimal, BeforeValidator(_decimal), Field(strict=True, ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolSettings(_Table):
    """The free tier's money: what flows in, and how fast it may flow out. An absent cap is no cap."""

    share_of_revenue: Share = Decimal(0)
    daily_cap_sats: LimitSats | None = None
    per_address_cap_sats: LimitSats | None = None


class Tier(_Table):
    """What an identity that has paid and stayed long enough is given. `pool_share`: 0 … 1 of an estimate."""

    name: Name
    min_paid_sats: LimitSats
    min_days_known: Annotated[StrictInt, Field(ge=0, le=36_500)] = 0
    daily_limit_sats: LimitSats
    pool_share: Share


class FlatPrice(_Table):
    estimate_sats: PriceSats


class TokenPrice(_Table):
    per_1k_input_tokens_sats: PriceSats
    per_1k_output_tokens_sats: PriceSats
    max_output_tokens: Annotated[StrictInt, Field(ge=1, le=MAX_OUTPUT_TOKENS)]


class PagePrice(_Table):
    per_page_sats: PriceSats


class CpuPrice(_Table):
    """Per second of processor time, user and system, of all that the command started; `max_cpu_s` ends it."""

    per_cpu_second_sats: PriceSats
    max_cpu_s: Annotated[StrictInt, Field(ge=1, le=3600)]

    @model_validator(mode="after")
    def _payable(self) -> Self:
        if self.per_cpu_second_sats * self.max_cpu_s > MAX_AMOUNT_SATS:
            raise ValueError(f"per_cpu_second_sats times max_cpu_s must be at most {MAX_AMOUNT_SATS}")
        return self


class EvaluationSettings(_Table):
    """The operator's service that looks at an input before its price is fixed, and what the look costs.

    `timeout_s` limits one attempt, from connecting to the answer's last byte.
    """

    fee_sats: LimitSats
    url: HttpUrl
    timeout_s: Annotated[StrictInt, Field(ge=1, le=3600)] = 60


class _Work(_Table):
    name: Name
    title: Line
    description: Annotated[StrictStr, Field(max_length=2000)] = ""
    example: dict[str, Any] | None = None
    input_schema: dict[str, Any] | None = None
    evaluation: EvaluationSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _title_from_name(cls, table: Any) -> Any:
        return {"title": table["name"], **table} if isinstance(table, dict) and "name" in table else table

    @property
    def evaluation_fee_sats(self) -> int | None:
        """None: the price of an input is fixed by the catalogue alone."""
        return None if self.evaluation is None else self.evaluation.fee_sats

    @property
    def own_schema(self) -> dict[str, Any]:
        """What the worker itself demands of an input, whatever the entry's schema says."""
        return http_schema()

    @property
    def schema_of_input(self) -> dict[str, Any]:
        """The schema that payers are shown: the entry's, else its worker's."""
        return self.own_schema if self.input_schema is None else self.input_schema

    @cached_property
    def validators(self) -> tuple[Validator, ...]:
        """Both schemas, compiled once. Raises SchemaMistake."""
        own = compile_schema(self.own_schema)
        return (own,) if self.input_schema is None else (own, compile_schema(self.input_schema))

    @property
    def is_slow_to_price(self) -> bool:
        """Also a small input may take a while: by a keyword of the operator's schema, or by what is counted in it."""
        return self._has_slow_keyword

    @cached_property
    def _has_slow_keyword(self) -> bool:
        return self.input_schema is not None and has_slow_keyword(self.input_schema)


class HttpWork(_Work):
    """The operator's own service. `timeout_s` limits one attempt, from connecting to the answer's last byte."""

    worker: Literal["http"]
    url: HttpUrl
    price: FlatPrice
    timeout_s: Annotated[StrictInt, Field(ge=1, le=3600)] = 300


class OpenAiWork(_Work):
    """An OpenAI-compatible endpoint. `api_key_env` names the environment variable that holds its key."""

    worker: Literal["openai"]
    base_url: HttpUrl
    model: Line
    price: TokenPrice
    api_key_env: Annotated[StrictStr, AfterValidator(_environment_name)] | None = None
    timeout_s: Annotated[StrictInt, Field(ge=1, le=3600)] = 300

    @property
    def own_schema(self) -> dict[str, Any]:
        return openai_schema(self.price.max_output_tokens)


class PdfWork(_Work):
    """The embedded worker: Markdown to PDF."""

    worker: Literal["pdf"]
    price: PagePrice

    @property
    def own_schema(self) -> dict[str, Any]:
        return pdf_schema()

    @property
    def is_slow_to_price(self) -> bool:
        """The text is laid out."""
        return True


class CommandWork(_Work):
    """A program of the operator's, run without network under limits; no shell reads `command`.

    It sees the system's programs and what `visible` names, read-only. `memory_mb` (MiB) holds for one process and for
    all together, files in its own folders included. `timeout_s` is by the clock on the wall.
    """

    worker: Literal["command"]
    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=100), AfterValidator(_program_first)]
    price: CpuPrice
    visible: Annotated[tuple[VisiblePath, ...], Field(max_length=50)] = ()
    memory_mb: Annotated[StrictInt, Field(ge=32, le=1_048_576)] = 512
    timeout_s: Annotated[StrictInt, Field(ge=1, le=3600)] = 60

    @property
    def own_schema(self) -> dict[str, Any]:
        return command_schema()


WorkEntry: TypeAlias = HttpWork | OpenAiWork | PdfWork | CommandWork
"""One work that is sold."""


def _rising(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    _unique(tiers)
    for lower, upper in pairwise(tiers):
        needed = (upper.min_paid_sats, upper.min_days_known)
        if needed == (lower.min_paid_sats, lower.min_days_known) or upper.min_paid_sats < lower.min_paid_sats:
            raise ValueError(f"must stand in rising order: {upper.name!r} comes after {lower.name!r} but needs no more")
    return tiers


def _unique(entries: tuple[Tier, ...] | tuple[WorkEntry, ...]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise ValueError(f"has the name {entry.name!r} twice")
        seen.add(entry.name)


def _offered(works: tuple[WorkEntry, ...]) -> tuple[WorkEntry, ...]:
    _unique(works)
    return works


class Catalogue(_Table):
    """Everything an operator wrote. `settings` belongs to the settings' own reader."""

    pool: PoolSettings = PoolSettings()
    tiers: Annotated[tuple[Tier, ...], Field(alias="tier"), AfterValidator(_rising)] = ()
    works: Annotated[
        tuple[Annotated[WorkEntry, Field(discriminator="worker")], ...],
        Field(alias="work", min_length=1),
        AfterValidator(_offered),
    ]
    settings: dict[str, Any] = Field(default_factory=dict, repr=False, exclude=True)

    @cached_property
    def gate_rules(self) -> free_tier.Rules:
        """Tiers and caps as the gate's policy takes them."""
        tiers = tuple(free_tier.Tier(**tier.model_dump()) for tier in self.tiers)
        return free_tier.Rules(tiers, self.pool.daily_cap_sats, self.pool.per_address_cap_sats)

    def find(self, name: str) -> WorkEntry | None:
        return next((entry for entry in self.works if entry.name == name), None)
