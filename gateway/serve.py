"""The processes: server (with watcher and executors unless they run apart), worker, watcher."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from aiohttp import web

from gateway import idempotency
from gateway.app import make_app
from gateway.beat import beat
from gateway.catalogue import load_catalogue
from gateway.context import Gateway
from gateway.database import StartError, open_database
from gateway.execution.evaluate import EvaluationExecutor
from gateway.execution.orphans import requeue_orphans
from gateway.execution.queue import enqueue, run_queue
from gateway.execution.run import Executor
from gateway.identity import login
from gateway.jobs.decisions import Stage
from gateway.jobs.end_unpaid import forget_inputs
from gateway.metrics import Metrics
from gateway.operator import sessions as operator_sessions
from gateway.reconcile.run import reconcile
from gateway.refunds import withdraw
from gateway.refunds.executor import RefundExecutor
from gateway.refunds.on_file import OnFile
from gateway.sessions import sweep as sessions
from gateway.settings import PREFIX, Settings
from gateway.settlement.deliver import HttpSender, InsideSender
from gateway.settlement.sweep import Sweep
from gateway.settlement.watcher import Watcher
from gateway.settlement.webhook import receive
from gateway.start import check_commands, open_gateway, open_node
from gateway.supervise import Supervisor
from gateway.webhooks import outbox
from gateway.webhooks.outbox import Outbox
from gateway.work.registry import evaluator_of

log = logging.getLogger(__name__)

ORPHAN_SWEEP_S = 5.0
KEEP_HOUSE_S = 3600.0
RECONCILE_S = 3600.0
RECONCILE_AGAIN_S = 30.0
"""When the node did not answer."""
WEBHOOK_SLOTS = 64
HTTP_GRACE_S = 2.0
STOP_WITHIN_S = 9.5
WORK_STOP_S = 8.0
"""Grace for running work, and the time to hand it back; after it the queue's own lease takes over."""


def listening_socket(settings: Settings) -> socket.socket:
    """Taken before anything else, so that a port in use is told at once. Raises StartError."""
    host, port = settings.listen_host, settings.listen_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"{PREFIX}LISTEN: port {port} on {host} is in use (a second boltworks, or another program)"
            ) from None
        raise StartError(f"{PREFIX}LISTEN: can not listen on {settings.listen}: {error.strerror}") from None
    return sock


@contextmanager
def stop_on_signals(stopping: asyncio.Event, *, within_s: float | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT set the event. With `within_s` the process has ended by then, come what may.

    That is safe: everything here survives SIGKILL, leases and look-ups take it up again.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if within_s is not None and not stopping.is_set():
            watchdog = threading.Timer(within_s, _end_now)
            watchdog.daemon = True
            watchdog.start()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _end_now() -> None:
    log.warning("something does not answer; ending without it")
    os._exit(0)


@asynccontextmanager
async def running_server(
    settings: Settings, *, watch: bool = True, work: bool = True, stopping: asyncio.Event | None = None
) -> AsyncIterator[Gateway]:
    """A whole gateway, listening. Leaving the block stops it: no new requests, work finished or handed back."""
    catalogue = load_catalogue(settings.config)
    if work:
        await check_commands(catalogue, settings)
    sock = listening_socket(settings)
    try:
        async with open_gateway(settings, catalogue) as gateway:
            if stopping is not None:
                gateway.stopping = stopping
            async with running(gateway, sock, watch=watch, work=work):
                yield gateway
    finally:
        sock.close()


@asynccontextmanager
async def running(gateway: Gateway, sock: socket.socket, *, watch: bool, work: bool) -> AsyncIterator[None]:
    """All long tasks and the server of a gateway whose parts are open."""
    async with Supervisor(gateway.metrics) as tasks:
        await tasks.add("live", lambda: gateway.hub.run(gateway.pool))
        await tasks.add("sweep", sweep(gateway).run)
        await tasks.add("housekeeping", lambda: keep_house(gateway))
        await tasks.add("session leases", lambda: sessions.keep_holds(gateway))
        await tasks.add("session holds", lambda: sessions.release_holds(gateway))
        await tasks.add("session sweep", lambda: sessions.run(gateway))
        await tasks.add("fiat prices", lambda: gateway.fiat.run(gateway.session))
        if work:
            await add_work(gateway, tasks)
        async with stopped_at_exit(gateway, tasks), serving(gateway, sock):
            if watch:
                await tasks.add("watcher", watcher(gateway).run)
            yield


@asynccontextmanager
async def stopped_at_exit(gateway: Gateway, tasks: Supervisor) -> AsyncIterator[None]:
    """Running work ends or is handed back before the stack closes further."""
    try:
        yield
    finally:
        gateway.stopping.set()
        await asyncio.gather(tasks.finished("work", WORK_STOP_S), gateway.session_runs.all_ended(WORK_STOP_S))


@asynccontextmanager
async def serving(gateway: Gateway, sock: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(make_app(gateway), access_log=None, shutdown_timeout=HTTP_GRACE_S)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        gateway.stopping.set()
        await runner.cleanup()


async def add_work(gateway: Gateway, tasks: Supervisor) -> None:
    """Everything that executes: paid work, orphans, refunds."""
    settings = gateway.settings
    executor = Executor(
        gateway.pool,
        gateway.catalogue,
        gateway.workers,
        gateway.metrics,
        gateway.stopping,
        timeout_s=settings.work_timeout_s,
        beginnings=gateway.beginnings,
        completions=gateway.completions,
    )
    evaluations = EvaluationExecutor(
        gateway.pool,
        gateway.node,
        gateway.catalogue,
        evaluator_of(gateway.session, settings.worker_secret.get_secret_value()),
        gateway.metrics,
        gateway.stopping,
        gateway.invoice_limits,
        gateway.memo,
        timeout_s=settings.work_timeout_s,
    )
    await tasks.add(
        "work",
        lambda: run_queue(
            gateway.pool,
            {Stage.WORK: executor.handle, Stage.EVALUATION: evaluations.handle},
            concurrent=settings.concurrent_works,
            heartbeat_timeout_s=settings.lease_s,
            stopping=gateway.stopping,
        ),
    )
    await tasks.add("reconciliation", lambda: reconcile_regularly(gateway))
    await tasks.add("orphans", lambda: sweep_orphans(gateway))
    refunds = RefundExecutor(
        gateway.pool,
        gateway.node,
        gateway.metrics,
        lease_s=settings.lease_s,
        cltv_limit=settings.refund_cltv_limit,
        in_flight=settings.refunds_in_flight,
        wake=gateway.refund_wake,
        in_flight_cap_sats=settings.refunds_in_flight_sats,
        tell=gateway.hub.tell,
    )
    gateway.hub.wake_on_refunds(gateway.refund_wake)
    await tasks.add("refunds", refunds.run)
    on_file = OnFile(
        gateway.pool,
        gateway.node,
        gateway.fee_limit,
        gateway.destination_rules,
        settings.refund_min_sats,
        gateway.on_file_wake,
    )
    gateway.hub.wake_on_refunds(gateway.on_file_wake)
    await tasks.add("refunds on file", on_file.run)
    await tasks.add("webhooks", Outbox(gateway.pool, gateway.session, gateway.token_secret).run)


def watcher(gateway: Gateway) -> Watcher:
    """Of the server's own process. It tells the webhook there, or the one that the settings name."""
    url, secret, slots = gateway.settings.webhook_url, gateway.webhook_secret, asyncio.Semaphore(WEBHOOK_SLOTS)
    inside = InsideSender(lambda raw, headers: receive(gateway, raw, headers), secret, slots)
    sender = inside if url is None else HttpSender(gateway.session, url, secret, slots)
    return Watcher(gateway.pool, gateway.node, sender, gateway.metrics, gateway.sweep_wake.set, gateway.heard)


def sweep(gateway: Gateway) -> Sweep:
    return Sweep(
        gateway.pool,
        gateway.node,
        gateway.metrics,
        enqueue,
        gateway.settings.sweep_interval_s,
        gateway.sweep_wake,
        gateway.rules,
        gateway.open_invoices,
    )


def webhook_url(settings: Settings) -> str:
    """Where a watcher by itself delivers: the setting, or a server beside it (a wildcard is reached on loopback)."""
    if settings.webhook_url is not None:
        return settings.webhook_url
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen_host, settings.listen_host)  # noqa: S104 - never bound here, only replaced
    netloc = f"[{host}]:{settings.listen_port}" if ":" in host else f"{host}:{settings.listen_port}"
    return f"http://{netloc}/webhooks/lightning/invoice-settled"


async def sweep_orphans(gateway: Gateway) -> None:
    while True:
        await requeue_orphans(gateway.pool, gateway.metrics)
        await asyncio.sleep(ORPHAN_SWEEP_S)


async def reconcile_regularly(gateway: Gateway) -> None:
    """At start and on a timer: the books against the node's own lists."""
    while True:
        report = await reconcile(gateway.pool, gateway.node, enqueue, gateway.rules, gateway.metrics)
        await asyncio.sleep(RECONCILE_S if report.is_known else RECONCILE_AGAIN_S)


async def keep_house(gateway: Gateway) -> None:
    """Forgets what is of no use to anybody any more."""
    while True:
        await idempotency.forget_old(gateway.pool)
        await forget_inputs(gateway.pool)
        await login.forget_old(gateway.pool)
        await withdraw.forget_old(gateway.pool)
        await sessions.forget_results(gateway)
        await outbox.forget_old(gateway.pool)
        await operator_sessions.forget_old(gateway.pool)
        await asyncio.sleep(KEEP_HOUSE_S)


async def serve(settings: Settings, *, watch: bool, work: bool) -> None:
    """`boltworks serve`: until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    with stop_on_signals(stopping, within_s=STOP_WITHIN_S):
        async with running_server(settings, watch=watch, work=work, stopping=stopping):
            log.info("serving on http://%s", settings.listen)
            await stopping.wait()
            log.info("stopping")


async def work_only(settings: Settings) -> None:
    """`boltworks worker`: takes paid work and refunds, serves nothing."""
    stopping = asyncio.Event()
    with stop_on_signals(stopping, within_s=STOP_WITHIN_S):
        catalogue = load_catalogue(settings.config)
        await check_commands(catalogue, settings)
        async with open_gateway(settings, catalogue) as gateway:
            gateway.stopping = stopping
            async with Supervisor(gateway.metrics) as tasks:
                await tasks.add("live", lambda: gateway.hub.run(gateway.pool))
                await add_work(gateway, tasks)
                await tasks.add("beat", lambda: beat(gateway.pool, gateway.node, settings.health_file))
                log.info("working")
                async with stopped_at_exit(gateway, tasks):
                    await stopping.wait()


async def watch_only(settings: Settings) -> None:
    """`boltworks watch`: follows the node's settlements and delivers them to the server's webhook.

    It holds the webhook's secret and a macaroon that reads invoices; it needs neither tokens nor workers.
    """
    stopping, metrics = asyncio.Event(), Metrics()
    with stop_on_signals(stopping, within_s=STOP_WITHIN_S):
        async with (
            open_node(settings) as node,
            open_database(settings) as pool,
            aiohttp.ClientSession() as session,
            Supervisor(metrics) as tasks,
        ):
            secret = settings.webhook_secret.get_secret_value()
            sender = HttpSender(session, webhook_url(settings), secret, asyncio.Semaphore(WEBHOOK_SLOTS))
            # A server elsewhere sweeps on its own timer.
            await tasks.add("watcher", Watcher(pool, node, sender, metrics, lambda: None).run)
            await tasks.add("beat", lambda: beat(pool, node, settings.health_file))
            log.info("watching")
            await stopping.wait()
