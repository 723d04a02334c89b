"""The command worker for real: programs in namespaces of their own, looked at from inside and from outside.

On Linux these namespaces must be had where BOLTWORKS_TEST_NAMESPACES=required (as on the project's own CI); elsewhere
their lack is told as a skip, with its reason. Each test runs as we are and, when that is root, as an ordinary user too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.catalogue.estimate import estimate_sats
from gateway.catalogue.model import CommandWork
from gateway.work import command_check
from gateway.work.command_sandbox import FIRST_OWN_UID, MAX_OUTPUT_BYTES, NOBODY, Ended, Sandbox
from gateway.work.command_worker import CommandWorker, read_result
from gateway.work.worker import Done, WorkFailed, WorkOrder

REPOSITORY = Path(__file__).resolve().parents[2]
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
SECRET = "boltworks-secret-of-this-test"
BURN = "perl -e 'while ((times)[0] < 0.3) {}'"
CONNECT_TCP = (
    "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in($ARGV[0], INADDR_LOOPBACK)) or exit 7"
)
CONNECT_UNIX = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ARGV[0])) or exit 7"
ABSTRACT = CONNECT_UNIX.replace("$ARGV[0]", '"\\0$ARGV[0]"')


def entry(*command: str, **changes: Any) -> CommandWork:
    price = {"per_cpu_second_sats": 1000, "max_cpu_s": changes.pop("max_cpu_s", 20)}
    table = {"name": "x", "worker": "command", "command": command, "price": price, "timeout_s": 120}
    return CommandWork.model_validate(table | changes)


def order(work: CommandWork, work_input: dict[str, Any] | None = None) -> WorkOrder:
    return WorkOrder("job-1", work, work_input or {}, estimate_sats(work, {}), 1)


def shell(script: str, *arguments: str, **changes: Any) -> WorkOrder:
    return order(entry("sh", "-c", script, "sh", *arguments, **changes))


def python_of_nobody() -> str | None:
    """A Python that an ordinary user can start with our process 1, however deep in /root the tests' own lies."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        load = [*AS_NOBODY, "env", python, "-P", "-S", "-c", "import gateway.work.command_init"]
        if subprocess.run(load, env={"PYTHONPATH": str(REPOSITORY)}, cwd="/", capture_output=True).returncode == 0:
            return python
    return None


def made_sandbox(user: str) -> Sandbox:
    if user == "as we are":
        return Sandbox()
    if os.geteuid() != 0:
        pytest.skip("we are an ordinary user already")
    python = python_of_nobody()
    if python is None:
        pytest.skip(f"an ordinary user can not read {REPOSITORY} or any Python")
    return Sandbox(python, NOBODY, NOBODY)


@pytest.fixture(params=["as we are", "ordinary user"])
async def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if reason := command_check.missing_on(sys.platform):
        pytest.skip(f"NOT TESTED, the command worker cannot be run here: {reason}")
    made = made_sandbox(request.param)
    if reason := await command_check.cannot_run(entry("sh"), made):
        if os.environ.get("BOLTWORKS_TEST_NAMESPACES") == "required":
            pytest.fail(f"namespaces must be had here: {reason}")
        pytest.skip(f"NOT TESTED, the command worker cannot be run here: {reason}")
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to everybody and outside of what a command never sees by its name alone."""
    made = Path(tempfile.mkdtemp(prefix="boltworks-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def marker() -> AsyncIterator[str]:
    """An argument for `sleep` by which a process is found among all of this machine."""
    found = f"600.{uuid.uuid4().int % 10**12:012d}"
    yield found
    for pid in pids_with(found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pids_with(marker: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes() == f"sleep\0{marker}\0".encode():
                    found.append(int(process.name))
    return found


async def until(count: int, marker: str) -> None:
    async with asyncio.timeout(60):
        while len(pids_with(marker)) != count:
            await asyncio.sleep(0.02)


async def outside(*program: str) -> int:
    """The exit code of the same program, run by us."""
    return await (await asyncio.create_subprocess_exec(*program)).wait()


async def done(sandbox: Sandbox, work_order: WorkOrder) -> Done:
    outcome = await CommandWorker(sandbox).run(work_order)
    assert isinstance(outcome, Done), outcome
    return outcome


async def why(sandbox: Sandbox, work_order: WorkOrder) -> str:
    outcome = await CommandWorker(sandbox).run(work_order)
    assert isinstance(outcome, WorkFailed), outcome
    return outcome.reason


async def test_input_goes_in_and_the_result_comes_out(sandbox: Sandbox) -> None:
    echo = order(entry("cat"), {"text": "schön\n", "numbers": [1, 2.5, None]})
    assert (await done(sandbox, echo)).result == {"text": "schön\n", "numbers": [1, 2.5, None]}
    assert (await done(sandbox, order(entry("cat", "/dev/stdin"), {"a": 1}))).result == {"a": 1}
    assert (await done(sandbox, shell("echo ' two words'"))).result == " two words\n"


async def test_no_shell_reads_the_command(sandbox: Sandbox) -> None:
    assert (await done(sandbox, order(entry("echo", "$HOME; id", "*")))).result == "$HOME; id *\n"


async def test_an_exit_code_fails_the_work_and_stderr_is_not_for_payers(sandbox: Sandbox) -> None:
    reason = await why(sandbox, shell("echo out; echo internal >&2; exit 3"))
    assert reason == "The program that does this work ended with exit code 3."
    assert await why(sandbox, shell("kill -SEGV $$")) == "The program that does this work was ended by SIGSEGV."


async def test_no_network(sandbox: Sandbox) -> None:
    """The same program with the same arguments, outside and inside."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = ("perl", "-e", CONNECT_TCP, str(listener.getsockname()[1]))
        assert await outside(*program) == 0
        assert "exit code 7" in await why(sandbox, order(entry(*program)))
    interfaces = (await done(sandbox, shell("cat /proc/net/dev"))).result
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]


@pytest.mark.parametrize("program", [CONNECT_UNIX, ABSTRACT], ids=["path", "abstract"])
async def test_no_unix_socket(sandbox: Sandbox, folder: Path, program: str) -> None:
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + path if program == ABSTRACT else path)
        listener.listen()
        assert await outside("perl", "-e", program, path) == 0
        assert "exit code 7" in await why(sandbox, order(entry("perl", "-e", program, path)))


async def test_no_secret_in_environment_or_processes(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLTWORKS_TOKEN_SECRET", SECRET)
    other = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        assert SECRET.encode() in Path(f"/proc/{other.pid}/environ").read_bytes()
        look = "env; for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; tr '\\0' ' ' <$p/cmdline; done; true"
        seen = (await done(sandbox, shell(look))).result
        names = {line.partition("=")[0] for line in (await done(sandbox, shell("env"))).result.splitlines()}
    finally:
        other.kill()
        await other.wait()
    assert SECRET not in seen
    assert "BOLTWORKS" not in seen
    assert names == {"PATH", "HOME", "TMPDIR", "LANG", "PWD"}


async def test_only_its_own_processes_and_none_of_their_insides(sandbox: Sandbox) -> None:
    assert (await done(sandbox, shell("echo /proc/[0-9]*"))).result.split()[0] == "/proc/1"
    assert len((await done(sandbox, shell("echo /proc/[0-9]*"))).result.split()) == 2
    for inside in ("environ", "mem", "root/", "fd/0", "cwd/"):
        assert "exit code 1" in await why(sandbox, shell(f"ls /proc/1/{inside} && cat /proc/1/{inside} || exit 1"))
    assert (
        await done(sandbox, shell("for s in KILL STOP TERM INT; do kill -$s 1; done; sleep 0.2; echo 1"))
    ).result == 1


async def test_nothing_of_the_disk_but_the_systems_programs(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path):
        (place / "secret").write_text(SECRET, encoding="utf-8")
        assert "exit code 1" in await why(sandbox, shell('cat "$1" || exit 1', str(place / "secret")))
    seen = set((await done(sandbox, shell("ls /"))).result.split())
    assert seen - {"bin", "sbin", "lib", "lib32", "lib64", "libx32"} == {"dev", "etc", "proc", "tmp", "usr", "work"}
    assert (await done(sandbox, shell("ls -A /tmp /work"))).result == "/tmp:\n\n/work:\n"


async def test_what_the_catalogue_shows_is_seen_and_not_written(sandbox: Sandbox, folder: Path) -> None:
    name = folder / "a tool #1"
    name.write_text("#!/bin/sh\necho '\"seen\"'\n", encoding="utf-8")
    name.chmod(0o777)
    folder.chmod(0o777)
    assert (await done(sandbox, order(entry(str(name), visible=[str(name)])))).result == "seen"
    assert (await done(sandbox, order(entry(str(name), visible=[str(folder)])))).result == "seen"
    for target in (name, folder / "new", Path("/usr/new"), Path("/etc/passwd"), Path("/new")):
        assert "exit code 2" in await why(sandbox, shell('echo x > "$1"', str(target), visible=[str(folder)]))
    assert sorted(folder.iterdir()) == [name]


async def test_a_fresh_folder_to_work_in(sandbox: Sandbox) -> None:
    script = "ls -A; echo kept > here; echo kept > /tmp/there; cat here /tmp/there"
    for _ in range(2):
        assert (await done(sandbox, shell(script))).result == "kept\nkept\n"


async def test_an_ordinary_user_without_any_right(sandbox: Sandbox) -> None:
    status = (await done(sandbox, shell("id -u; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status"))).result
    uid, *lines = status.splitlines()
    facts = dict(line.split(":\t") for line in lines)
    assert int(uid) >= FIRST_OWN_UID if sandbox.uid == 0 else int(uid) == sandbox.uid
    assert {int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert facts["NoNewPrivs"] == "1"
    # A user namespace of its own has a full set of what could be had in it, which reaches nothing outside.
    assert sandbox.uid != 0 or int(facts["CapBnd"], 16) == 0
    assert "exit code 1" in await why(sandbox, shell("mount -t tmpfs x /work || exit 1"))


async def test_no_way_back_by_namespaces_of_its_own(sandbox: Sandbox, folder: Path) -> None:
    (folder / "secret").write_text(SECRET, encoding="utf-8")
    script = 'unshare -rm sh -c "umount -l /proc; umount -l /usr; umount -l /; cat $1; ls /old" 2>&1; true'
    seen = (await done(sandbox, shell(script, str(folder / "secret")))).result
    assert SECRET not in seen


async def test_a_process_has_so_much_memory(sandbox: Sandbox) -> None:
    hungry = ("perl", "-e", "$x = 'a' x (200 * 1024 * 1024); print length $x")
    assert "exit code" in await why(sandbox, order(entry(*hungry, memory_mb=100)))
    assert (await done(sandbox, order(entry(*hungry, memory_mb=1000)))).result == 200 * 1024 * 1024


async def test_and_all_together_no_more(sandbox: Sandbox) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do perl -e '$x = \"a\" x (20 << 20); sleep 600' & done; wait"
    words = "The program that does this work used more than 100 MB of memory."
    assert await why(sandbox, shell(script, memory_mb=100)) == words
    assert (
        await why(sandbox, shell("for i in 1 2 3; do head -c 40M /dev/zero > $i; done; sleep 600", memory_mb=100))
        == words
    )


async def test_files_are_bounded(sandbox: Sandbox) -> None:
    reason = await why(sandbox, shell("head -c 200M /dev/zero > file", memory_mb=100))
    assert "SIGXFSZ" in reason or "exit code" in reason or "memory" in reason


@pytest.mark.parametrize(
    "script",
    ["while :; do :; done", "for i in 1 2 3; do (while :; do :; done) & done; wait", f"while :; do {BURN}; done"],
    ids=["one", "many", "one after the other"],
)
async def test_processor_time_is_bounded_for_all_together(sandbox: Sandbox, script: str) -> None:
    reason = await why(sandbox, shell(script, max_cpu_s=1))
    assert reason == "The program that does this work used up its 1 seconds of processor time."


async def test_a_program_that_never_stops_complaining_is_stopped(sandbox: Sandbox) -> None:
    assert "took longer than 1 seconds" in await why(sandbox, shell("yes >&2", timeout_s=1))


async def test_a_fork_bomb_ends(sandbox: Sandbox) -> None:
    bomb = "perl -e 'while (1) { fork }'"
    assert await why(sandbox, shell(bomb, max_cpu_s=1, memory_mb=200, timeout_s=30))
    assert (await done(sandbox, shell("echo '\"well\"'"))).result == "well"


async def test_time_is_bounded_and_grandchildren_end_too(sandbox: Sandbox, marker: str) -> None:
    script = f"(setsid sleep {marker} &) ; trap '' TERM HUP; sleep {marker}"
    reason = await why(sandbox, shell(script, timeout_s=1))
    assert reason == "The program that does this work took longer than 1 seconds."
    assert pids_with(marker) == []


async def test_what_stays_in_the_background_ends_with_the_command(sandbox: Sandbox, marker: str) -> None:
    script = f"(setsid sh -c 'echo > up; exec sleep {marker}' &); until [ -e up ]; do sleep 0.02; done; echo 1"
    assert (await done(sandbox, shell(script))).result == 1
    assert pids_with(marker) == []


async def test_a_long_result_is_cut_off(sandbox: Sandbox) -> None:
    assert await why(sandbox, order(entry("yes"))) == (
        f"The program that does this work wrote more than {MAX_OUTPUT_BYTES} bytes."
    )
    just = await done(sandbox, shell(f"head -c {MAX_OUTPUT_BYTES} /dev/zero | tr '\\0' a"))
    assert len(just.result) == MAX_OUTPUT_BYTES


@pytest.mark.parametrize(
    "script",
    [BURN, f"({BURN}; echo > ready) & wait", f"({BURN}; echo > ready) & until [ -e ready ]; do sleep 0.02; done"],
    ids=["itself", "waited for", "an orphan"],
)
async def test_processor_time_is_metered(sandbox: Sandbox, script: str) -> None:
    work_order = shell(script)
    outcome = await done(sandbox, work_order)
    assert 300 <= outcome.cost_sats <= work_order.max_cost_sats


async def test_waiting_costs_nothing_to_speak_of(sandbox: Sandbox) -> None:
    busy, idle = await done(sandbox, shell(BURN)), await done(sandbox, shell("sleep 0.5"))
    assert 0 < idle.cost_sats < busy.cost_sats


async def test_not_even_our_own_process_in_there_holds_a_secret(
    sandbox: Sandbox, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOLTWORKS_TOKEN_SECRET", SECRET)
    running = asyncio.create_task(CommandWorker(sandbox).run(order(entry("sleep", marker))))
    await until(1, marker)
    status = Path(f"/proc/{pids_with(marker)[0]}/status").read_text(encoding="utf-8")
    first = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
    assert b"command_init" in Path(f"/proc/{first}/cmdline").read_bytes()
    assert SECRET.encode() not in Path(f"/proc/{first}/environ").read_bytes()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_cancelled_nothing_is_left(sandbox: Sandbox, marker: str) -> None:
    running = asyncio.create_task(CommandWorker(sandbox).run(shell(f"(setsid sleep {marker} &) ; sleep {marker}")))
    await until(2, marker)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert pids_with(marker) == []


GATEWAY = """
import asyncio, sys
from gateway.work.command_sandbox import Sandbox
from tests.web.test_workers_command import entry
sandbox = Sandbox(sys.argv[1], int(sys.argv[2]), int(sys.argv[2]))
asyncio.run(sandbox.run(entry("x"), ["sleep", sys.argv[3]], {}))
"""


async def test_killed_the_gateway_leaves_nothing(sandbox: Sandbox, marker: str) -> None:
    command = [sys.executable, "-c", GATEWAY, sandbox.python, str(sandbox.uid), marker]
    gateway = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY)
    await until(1, marker)
    gateway.kill()
    await gateway.wait()
    await until(0, marker)


async def test_killed_its_parent_is_enough(sandbox: Sandbox, marker: str) -> None:
    """Even if somebody else holds the other end of stdin open: the kernel ends process 1 with its parent."""
    start = "import json, subprocess, sys; subprocess.run(json.loads(sys.argv[1]), cwd='/')"
    command = [sys.executable, "-c", start, json.dumps(sandbox.opening())]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY)}
    stdin, held = os.pipe()
    os.write(held, sandbox.order(entry("x"), ["sleep", marker], {}))
    parent = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=subprocess.DEVNULL, env=environment)
    await until(1, marker)
    parent.kill()
    await parent.wait()
    await until(0, marker)
    os.close(stdin)
    os.close(held)


async def test_many_processes_of_one_run_are_not_missing_to_another(sandbox: Sandbox, marker: str) -> None:
    script = f"perl -e 'while (defined(my $pid = fork)) {{ $pid or exec qw(sleep {marker}) }} sleep 600'"
    crowd = asyncio.create_task(CommandWorker(sandbox).run(shell(script)))
    async with asyncio.timeout(60):
        while len(pids_with(marker)) < 200:
            await asyncio.sleep(0.02)
    assert (await done(sandbox, shell("id -un >/dev/null; echo 1"))).result == 1
    assert len(pids_with(marker)) < 256
    crowd.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crowd
    assert pids_with(marker) == []


async def test_works_side_by_side(sandbox: Sandbox) -> None:
    orders = [order(entry("cat"), {"number": number}) for number in range(4)]
    outcomes = await asyncio.gather(*(done(sandbox, one) for one in orders))
    assert [outcome.result["number"] for outcome in outcomes] == [0, 1, 2, 3]


async def test_a_program_that_is_not_there_is_told_beforehand(sandbox: Sandbox, folder: Path) -> None:
    told = await command_check.cannot_run(entry("no-such-program"), sandbox)
    assert told is not None
    assert "it does not see a program 'no-such-program'" in told
    told = await command_check.cannot_run(entry("sh", visible=["/var/no-such-folder"]), sandbox)
    assert told is not None
    assert "there is no /var/no-such-folder" in told


async def test_where_namespaces_can_not_be_had_nothing_starts(sandbox: Sandbox, tmp_path: Path) -> None:
    """A machine that forbids them: the gateway refuses with plain words, before it looks at anything else."""
    if sandbox != Sandbox():
        pytest.skip("one way in is enough")
    config = tmp_path / "boltworks.toml"
    config.write_text(
        '[[work]]\nname = "count"\nworker = "command"\ncommand = ["wc", "-c"]\n'
        "price = { per_cpu_second_sats = 5, max_cpu_s = 20 }\n",
        encoding="utf-8",
    )
    forbid = 'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"'
    closed = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c", forbid, "sh"]
    told = {}
    for command in ("serve", "worker", "doctor"):
        process = await asyncio.create_subprocess_exec(
            *(*closed, sys.executable, "-m", "gateway", command),
            cwd=REPOSITORY,
            env={**os.environ, "BOLTWORKS_CONFIG": str(config), "BOLTWORKS_DATA_DIR": str(tmp_path / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        told[command] = (await process.communicate())[0].decode()
        assert process.returncode == 1, told
    words = (
        "work 'count': the command worker cannot be run here because namespaces can not be had: unshare: unshare failed"
    )
    assert told["serve"].startswith(f"boltworks: {words}")
    assert told["worker"].startswith(f"boltworks: {words}")
    assert f"missing  commands: {words}" in told["doctor"]


@pytest.mark.parametrize(
    ("output", "result"),
    [(b'{"a": 1}\n', {"a": 1}), (b"7", 7), (b"plain", "plain"), (b"", ""), (b"NaN", "NaN"), (b'{"a": ', '{"a": ')],
)
def test_json_if_it_is_else_text(output: bytes, result: Any) -> None:
    assert read_result(Ended("exit", 0, 1500, output, ""), entry("x")) == Done(result, 2)


@pytest.mark.parametrize(
    "output", [b"\xff\xfe", b"a\0b", b'"\\ud800"', b"1e999", b"[" * 100_000, b"[" * 99 + b"]" * 99]
)
def test_what_can_not_be_kept_fails_the_work(output: bytes) -> None:
    assert isinstance(read_result(Ended("exit", 0, 1500, output, ""), entry("x")), WorkFailed)
