"""What gRPC is told before it is loaded."""

from __future__ import annotations

import subprocess
import sys

THREADS_OF_A_FORK = """
import asyncio, os
import gateway.cli.main, gateway.cli.bake, gateway.serve
import grpc.aio

async def main():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    try:
        await channel.unary_unary("/nobody/listens")(b"")
    except grpc.aio.AioRpcError:
        pass
    here = len(os.listdir("/proc/self/task"))
    says, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, str(len(os.listdir("/proc/self/task"))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    print(here, os.read(says, 100).decode())
    await channel.close()

asyncio.run(main())
"""


def test_grpc_starts_no_thread_in_a_fork() -> None:
    """They run beside the child until its exec, on the parent's file descriptors; one may abort it (SIGABRT)."""
    run = subprocess.run(
        [sys.executable, "-c", THREADS_OF_A_FORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    here, in_the_child = map(int, run.stdout.split())
    assert here > 1, "gRPC runs threads here; without them this test shows nothing"
    assert in_the_child == 1
