"""Where binaries come from, and reading what apt and Go print."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lightning.regtest import binaries
from lightning.regtest.binaries import BinariesMissing, find_bitcoind, find_lncli, find_lnd, what_to_install
from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.debian import main_archives, package_version, repositories_of, transport_settings
from lightning.regtest.golang import GO_AT_LEAST, LND_VERSION, MODULE_DIR, parse_go_version
from lightning.regtest.platforms import Platform
from lightning.regtest.progress import Progress, format_elapsed

LINUX = Platform("linux", "amd64")


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BITCOIND", "LND", "LNCLI"):
        monkeypatch.delenv(f"BOLTWORKS_{name}", raising=False)
    monkeypatch.setenv("BOLTWORKS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_an_empty_machine_has_none() -> None:
    assert find_bitcoind(LINUX) is None
    assert find_lnd(LINUX) is None


def test_the_environment_comes_before_path_and_path_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = _program(tmp_path / "cache/bin" / f"lnd-{LND_VERSION}-linux-amd64" / "lnd")
    assert find_lnd(LINUX) == (str(cached),)
    on_path = _program(tmp_path / "path/lnd")
    assert find_lnd(LINUX) == (str(on_path),)
    named = _program(tmp_path / "elsewhere/my-lnd")
    monkeypatch.setenv("BOLTWORKS_LND", str(named))
    assert find_lnd(LINUX) == (str(named),)


def test_a_named_program_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLTWORKS_BITCOIND", str(tmp_path / "nothing"))
    with pytest.raises(BinariesMissing, match=r"BOLTWORKS_BITCOIND names .*nothing"):
        find_bitcoind(LINUX)


def test_the_cache_is_kept_apart_by_architecture(tmp_path: Path) -> None:
    _program(tmp_path / "cache/bin" / f"lnd-{LND_VERSION}-linux-arm64" / "lnd")
    assert find_lnd(LINUX) is None


def test_lncli_is_taken_from_beside_lnd_and_may_be_missing(tmp_path: Path) -> None:
    lnd = _program(tmp_path / "somewhere/lnd")
    assert find_lncli(LINUX, (str(lnd),)) is None
    lncli = _program(tmp_path / "somewhere/lncli")
    assert find_lncli(LINUX, (str(lnd),)) == (str(lncli),)


@pytest.mark.parametrize(("system", "loader"), [("amd64", "ld-linux-x86-64.so.2"), ("arm64", "ld-linux-aarch64.so.1")])
def test_the_newest_cached_bitcoind_is_run_by_its_own_loader(tmp_path: Path, system: str, loader: str) -> None:
    for version in ("29.9", "29.10"):
        tree = tmp_path / "cache/bin" / f"bitcoind-{version}-linux-{system}"
        for name in (f"usr/lib/multi/{loader}", "usr/lib/multi/libc.so.6", "usr/bin/bitcoind"):
            _program(tree / name)
    tree = tmp_path / "cache/bin" / f"bitcoind-29.10-linux-{system}"
    assert find_bitcoind(Platform("linux", system)) == (
        str(tree / "usr/lib/multi" / loader),
        "--library-path",
        str(tree / "usr/lib/multi"),
        str(tree / "usr/bin/bitcoind"),
    )


def test_a_mac_is_told_of_homebrew(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Platform("darwin", "arm64")
    monkeypatch.setattr(binaries, "this_platform", lambda: mac)
    with pytest.raises(BinariesMissing, match="brew install bitcoin"):
        binaries.ensure_binaries(Progress(quiet=True))
    assert "brew install lnd" in what_to_install("lnd", mac)


def test_a_linux_without_apt_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "this_platform", lambda: LINUX)
    with pytest.raises(BinariesMissing, match="Install Bitcoin Core"):
        binaries.ensure_binaries(Progress(quiet=True))


def test_repositories_are_read_from_what_apt_would_fetch() -> None:
    printed = (
        "'http://mirror.example/debian/dists/stable/InRelease' mirror.example_InRelease 0 \n"
        "'http://mirror.example/debian/dists/stable/main/binary-amd64/Packages.xz' mirror.example_Packages 0 \n"
        "'http://mirror.example/debian-security/dists/stable-security/InRelease' mirror.example_S 0 \n"
    )
    assert main_archives(repositories_of(printed)) == ["http://mirror.example/debian"]


def test_archives_named_debian_come_first_and_security_never() -> None:
    addresses = [
        "http://proxy.example/remote/",
        "http://mirror.example/debian/",
        "http://mirror.example/debian/",
        "http://mirror.example/debian-security/",
    ]
    assert main_archives(addresses) == ["http://mirror.example/debian", "http://proxy.example/remote"]


def test_the_version_stands_in_the_file_name() -> None:
    names = ["libc6_2.43-7_amd64.deb", "zlib1g_1%3a1.3-4_amd64.deb", "bitcoin-knots_29.4-1_amd64.deb"]
    assert package_version("bitcoin-knots", names) == "29.4-1"
    assert package_version("zlib1g", names) == "1:1.3-4"
    assert package_version("bitcoin", names) is None


def test_only_the_way_to_the_mirror_is_taken_over_from_the_machines_apt() -> None:
    dump = 'APT "";\nAcquire::http::Proxy "http://proxy.example:3128";\nDPkg::Post-Invoke:: "rm -rf x";\n'
    assert transport_settings(dump) == 'Acquire::http::Proxy "http://proxy.example:3128";\n'


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.25 darwin/arm64", (1, 25, 0)),
        ("go version go1.19.8 linux/amd64", (1, 19, 8)),
        ("command not found", (0, 0, 0)),
    ],
)
def test_go_versions(text: str, version: tuple[int, int, int]) -> None:
    assert parse_go_version(text) == version


def test_the_go_module_pins_the_version_we_name() -> None:
    module = (MODULE_DIR / "go.mod").read_text()
    assert f"github.com/lightningnetwork/lnd v{LND_VERSION}" in module
    assert f"go {'.'.join(map(str, GO_AT_LEAST))}\n" in module


def test_a_failing_command_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(CommandFailed, match="sh exited with 3:\nno such luck"):
        run(["sh", "-c", "echo no such luck >&2; exit 3"])
    with pytest.raises(CommandFailed, match="no-such-program cannot be started"):
        run(["no-such-program"])


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    progress = Progress(out)
    with progress.phase("Building") as phase:
        phase.update("3 of 9")
        assert phase.line(67.0) == "Building (3 of 9), 1 min 07 s"
    assert out.getvalue() == "Building …\nBuilding: done in 0.0 s\n"


def test_progress_says_when_a_phase_fails() -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), Progress(out).phase("Building"):
        raise KeyError
    assert "Building: not done after" in out.getvalue()


@pytest.mark.parametrize(("elapsed_s", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s")])
def test_elapsed(elapsed_s: float, text: str) -> None:
    assert format_elapsed(elapsed_s) == text
