"""The operator's file: what is read, and that every mistake is one line with file, key and reason."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from gateway.catalogue import Catalogue, CatalogueError, load_catalogue
from gateway.catalogue.model import HttpWork, OpenAiWork, PdfWork

WORK = """
[[work]]
name = "translate"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }
"""
COMMAND = """
[[work]]
name = "count"
worker = "command"
command = ["wc", "-c"]
price = { per_cpu_second_sats = 5, max_cpu_s = 20 }
"""
CHAT = """
[[work]]
name = "chat"
worker = "openai"
base_url = "http://127.0.0.1:11434/v1"
model = "some-model"
price = { per_1k_input_tokens_sats = 2, per_1k_output_tokens_sats = 6, max_output_tokens = 1024 }
"""
FULL = (
    """
[settings]
listen = "127.0.0.1:1"

[pool]
share_of_revenue = 0.05
daily_cap_sats = 50000
per_address_cap_sats = 500

[[tier]]
name = "new"
min_paid_sats = 0
daily_limit_sats = 0
pool_share = 0.0

[[tier]]
name = "known"
min_paid_sats = 1000
min_days_known = 3
daily_limit_sats = 200
pool_share = 1

[[work]]
name = "translate"
title = "Translate a text"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }
input_schema = { type = "object", required = ["text"], properties = { text = { type = "string", maxLength = 20000 } } }
example = { text = "Guten Tag" }
"""
    + CHAT
    + """
[[work]]
name = "paper"
worker = "pdf"
price = { per_page_sats = 7 }
"""
)


def load(tmp_path: Path, text: str) -> Catalogue:
    file = tmp_path / "boltworks.toml"
    file.write_text(text, encoding="utf-8")
    return load_catalogue(file)


def test_full_file(tmp_path: Path) -> None:
    catalogue = load(tmp_path, FULL)
    assert catalogue.pool.share_of_revenue == Decimal("0.05")
    assert catalogue.pool.daily_cap_sats == 50_000
    assert [tier.pool_share for tier in catalogue.tiers] == [Decimal("0.0"), Decimal(1)]
    assert [type(entry) for entry in catalogue.works] == [HttpWork, OpenAiWork, PdfWork]
    translate, chat, paper = catalogue.works
    assert translate.title == "Translate a text"
    assert chat.title == "chat"
    assert translate.schema_of_input["required"] == ["text"]
    assert chat.schema_of_input["properties"]["max_tokens"]["maximum"] == 1024
    assert paper.schema_of_input["required"] == ["markdown"]
    assert catalogue.find("paper") is paper
    assert catalogue.find("none") is None


def test_packaged_file_sells_the_embedded_work() -> None:
    catalogue = load_catalogue(None)
    (entry,) = catalogue.works
    assert entry.worker == "pdf"
    assert entry.example is not None


def test_http_work_without_a_schema_takes_any_object(tmp_path: Path) -> None:
    assert load(tmp_path, WORK).works[0].schema_of_input == {"type": "object"}


def test_numbers_of_a_schema_are_plain_json(tmp_path: Path) -> None:
    entry = load(tmp_path, WORK + "input_schema = { properties = { x = { multipleOf = 0.5 } } }").works[0]
    factor = entry.schema_of_input["properties"]["x"]["multipleOf"]
    assert type(factor) is float


TWICE = "work: has the name 'translate' twice"
MISTAKES = [
    pytest.param("[pool", "is not TOML", id="no toml"),
    pytest.param("", "work: is missing", id="empty"),
    pytest.param("work = []", "work: at least one [[work]] is needed", id="no works"),
    pytest.param(WORK + WORK, TWICE, id="name twice"),
    pytest.param("pol = {}\n" + WORK, "pol: is not a known key; did you mean 'pool'?", id="table"),
    pytest.param(
        "[pool]\nshare_of_revenu = 0.1\n" + WORK,
        "pool.share_of_revenu: is not a known key; did you mean 'share_of_revenue'?",
        id="pool key",
    ),
    pytest.param(
        "[pool]\nshare_of_revenue = 1.5\n" + WORK, "pool.share_of_revenue: must be at most 1, not 1.5", id="share"
    ),
    pytest.param("[pool]\nshare_of_revenue = nan\n" + WORK, "pool.share_of_revenue: must be a number", id="nan"),
    pytest.param(
        "[pool]\nshare_of_revenue = true\n" + WORK, "pool.share_of_revenue: must be a number, not true", id="bool"
    ),
    pytest.param(
        '[pool]\nshare_of_revenue = "0.1"\n' + WORK, "pool.share_of_revenue: must be a number, not '0.1'", id="text"
    ),
    pytest.param(
        "[pool]\ndaily_cap_sats = 5.0\n" + WORK, "pool.daily_cap_sats: must be a whole number, not 5.0", id="float"
    ),
    pytest.param(
        "[pool]\ndaily_cap_sats = -1\n" + WORK, "pool.daily_cap_sats: must be 0 or more, not -1", id="negative"
    ),
    pytest.param(WORK.replace("= 100", "= 0"), "work[0].price.estimate_sats: must be 1 or more, not 0", id="price 0"),
    pytest.param(
        WORK.replace("= 100", "= true"),
        "work[0].price.estimate_sats: must be a whole number, not true",
        id="price bool",
    ),
    pytest.param(
        WORK.replace("= 100", "= 1000000001"),
        "work[0].price.estimate_sats: must be at most 1000000000, not 1000000001",
        id="price absurd",
    ),
    pytest.param(
        CHAT + WORK.replace("= 100", '= "100"'),
        "work[1].price.estimate_sats: must be a whole number, not '100'",
        id="price text in the second work",
    ),
    pytest.param(
        WORK.replace("estimate_sats = 100", "per_page_sats = 3"),
        "work[0].price.per_page_sats: a work of the worker 'http' is priced as { estimate_sats = 100 }",
        id="price of another worker",
    ),
    pytest.param(
        WORK.replace("{ estimate_sats = 100 }", "100"),
        "work[0].price: a work of the worker 'http' is priced as { estimate_sats = 100 }",
        id="price no table",
    ),
    pytest.param(
        WORK.replace("price = { estimate_sats = 100 }", ""), "work[0].price: a work of the worker", id="no price"
    ),
    pytest.param(WORK.replace('"translate"', '"Translate"'), "work[0].name: must be 1 to 64 small letters", id="name"),
    pytest.param(
        WORK.replace('"translate"', '"a\\n"'), "work[0].name: must be 1 to 64 small letters", id="name line end"
    ),
    pytest.param(WORK.replace('"translate"', "7"), "work[0].name: must be a text, not 7", id="name number"),
    pytest.param(WORK.replace('name = "translate"', ""), "work[0].name: is missing", id="no name"),
    pytest.param(WORK.replace('"http"', '"htpp"'), "did you mean 'http'?", id="worker misspelt"),
    pytest.param(COMMAND.replace('["wc", "-c"]', '"wc"'), "work[0].command: must be a list, as in ['wc']", id="shell"),
    pytest.param(COMMAND.replace('["wc", "-c"]', "[]"), "work[0].command: must not be empty", id="no command"),
    pytest.param(COMMAND.replace('"wc"', '"bin/wc"'), "work[0].command: must begin with a program", id="relative"),
    pytest.param(COMMAND + 'visible = ["/"]', "work[0].visible[0]: must be a whole path from '/'", id="all visible"),
    pytest.param(COMMAND + 'visible = ["/a/../b"]', "work[0].visible[0]: must be a whole path", id="visible up"),
    pytest.param(COMMAND + 'visible = ["/proc/1"]', "work[0].visible[0]: must not lie in /proc", id="visible own"),
    pytest.param(COMMAND + "memory_mb = 1", "work[0].memory_mb: must be 32 or more, not 1", id="no memory"),
    pytest.param(
        COMMAND.replace("max_cpu_s = 20", "max_cpu = 20"),
        "work[0].price.max_cpu: a work of the worker 'command' is priced as { per_cpu_second_sats = 5, max_cpu_s",
        id="command's price",
    ),
    pytest.param(
        COMMAND.replace("= 5", "= 1000000000"),
        "work[0].price: per_cpu_second_sats times max_cpu_s must be at most 1000000000",
        id="command's price absurd",
    ),
    pytest.param(
        WORK.replace('worker = "http"', ""),
        "work[0]: has no worker; known workers are http, openai, pdf, command",
        id="no worker",
    ),
    pytest.param(
        WORK.replace("http://127", "ftp://127"), "work[0].url: must be an http:// or https:// address", id="ftp"
    ),
    pytest.param(
        WORK.replace("http://127.0.0.1:9000/run", "http://[::1"), "work[0].url: must be an http:// or", id="bad url"
    ),
    pytest.param(WORK + "timeout = 5", "work[0].timeout: is not a known key; did you mean 'timeout_s'?", id="hint"),
    pytest.param(WORK + "timeout_s = 0", "work[0].timeout_s: must be 1 or more, not 0", id="timeout"),
    pytest.param(
        WORK + 'evaluation = { fee_sats = -1, url = "http://127.0.0.1/eval" }',
        "work[0].evaluation.fee_sats: must be 0 or more",
        id="evaluation's fee",
    ),
    pytest.param(
        WORK + 'evaluation = { fee_sats = 5, url = "file:///eval" }',
        "work[0].evaluation.url: must be an http:// or https:// address",
        id="evaluation's url",
    ),
    pytest.param(WORK + 'input_schema = { type = "objekt" }', "work[0].input_schema: #/type", id="schema type"),
    pytest.param(
        WORK + 'input_schema = { pattern = "(" }', "work[0].input_schema: #/pattern '(' is not a 'regex'", id="pattern"
    ),
    pytest.param(
        WORK + 'input_schema = { "$ref" = "http://127.0.0.1:1/x" }',
        "work[0].input_schema: $ref 'http://127.0.0.1:1/x' leads out of the schema",
        id="remote ref",
    ),
    pytest.param(WORK + 'input_schema = { "$ref" = "#/$defs/x" }', "leads nowhere", id="dangling ref"),
    pytest.param(WORK + 'input_schema = { "$ref" = "#" }', "refers to itself without end", id="endless ref"),
    pytest.param(
        WORK + 'input_schema = { "$schema" = "http://json-schema.org/draft-07/schema#" }',
        "work[0].input_schema: $schema must be https://json-schema.org/draft/2020-12/schema",
        id="draft",
    ),
    pytest.param(WORK + "input_schema = 5", "work[0].input_schema: must be a table, not 5", id="schema no table"),
    pytest.param(
        WORK + "input_schema = { default = 2020-01-01 }",
        "work[0].input_schema.default: must be a JSON value",
        id="date",
    ),
    pytest.param(
        WORK + "input_schema = { default = inf }", "work[0].input_schema.default: must be a finite number", id="inf"
    ),
    pytest.param(
        WORK + 'input_schema = { required = ["text"] }\nexample = { texd = "a" }',
        "work[0].example: is no input of this work: #/text is missing",
        id="example",
    ),
    pytest.param(
        CHAT + 'api_key_env = "sk-12345"',
        "work[0].api_key_env: must be the name of an environment variable",
        id="key instead of its name",
    ),
    pytest.param(
        WORK + '[[tier]]\nname = "a"\nmin_paid_sats = 9\ndaily_limit_sats = 0\npool_share = 0\n'
        '[[tier]]\nname = "b"\nmin_paid_sats = 3\ndaily_limit_sats = 0\npool_share = 0',
        "tier: must stand in rising order: 'b' comes after 'a' but needs no more",
        id="tiers fall",
    ),
    pytest.param(
        WORK + '[[tier]]\nname = "a"\nmin_paid_sats = 9\ndaily_limit_sats = 0\npool_shar = 0',
        "tier[0].pool_shar: is not a known key; did you mean 'pool_share'?",
        id="tier key",
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_reason(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'boltworks.toml'}: ")
    assert expected in line
    assert "\n" not in line


def test_the_key_itself_is_never_repeated(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, CHAT + 'api_key_env = "sk-12345"')
    assert "sk-12345" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.toml: cannot be read"):
        load_catalogue(tmp_path / "none.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueError, match="is not UTF-8 text"):
        load_catalogue(tmp_path / "x.toml")
