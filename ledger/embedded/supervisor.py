"""The small process that is parent of PostgreSQL: `python -m ledger.embedded.supervisor …`, started by `server`.

It makes the cluster if need be, starts PostgreSQL, and then only waits: for the last user to go (it gets
users.lock alone), for SIGTERM, or for PostgreSQL to end by itself. In the first two cases it shuts PostgreSQL
down. Its log is its standard error. To whoever started it, it reports by lines on a pipe: "progress …", then
"started" (it accepts connections) or "failed …".
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from ledger.embedded.account import server_account
from ledger.embedded.binaries import runnable_binaries, wheel_binaries
from ledger.embedded.cluster import open_to_server, prepare_cluster
from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import ClusterFiles, open_private
from ledger.embedded.locks import wait_for_lock
from ledger.embedded.postmaster import Postmaster, end_leftovers, prune_logs, start_postmaster
from ledger.embedded.programs import Programs, programs_for

package_logger = logging.getLogger("ledger.embedded")
logger = logging.getLogger("ledger.embedded.supervisor")

_POLL_S = 0.01
_PROGRESS_EVERY_S = 5.0
_PRUNE_EVERY_S = 3600.0
_LAST_USER_GONE = "the last user is gone"
_TOLD_TO_STOP = "told to stop"
_SERVER_ENDED = "PostgreSQL ended by itself"


class _Reports(logging.Handler):
    """Our log lines, sent to the starter as progress for as long as it listens."""

    def __init__(self, fd: int) -> None:
        super().__init__(logging.INFO)
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        self.line(f"progress {record.getMessage()}")

    def line(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, (" ".join(text.split()) + "\n").encode())

    def end(self) -> None:
        os.close(self._fd)


def main() -> int:
    arguments = _arguments()
    if os.fork() != 0:
        os._exit(0)
    files = ClusterFiles(arguments.folder)
    os.ftruncate(arguments.lock_fd, 0)
    os.pwrite(arguments.lock_fd, str(os.getpid()).encode(), 0)
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: events.put(_TOLD_TO_STOP))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)

    reports = _Reports(arguments.report_fd)
    package_logger.setLevel(logging.INFO)
    package_logger.addHandler(_to_log())
    package_logger.addHandler(reports)
    try:
        programs = _prepared(files, arguments.cache_dir)
        postmaster = start_postmaster(programs, on_end=lambda: events.put(_SERVER_ENDED))
        _watch_users(files, events)
        event = _event_before_ready(postmaster, events)
        if event == _SERVER_ENDED:
            raise EmbeddedPostgresError(
                f"PostgreSQL ended with {postmaster.exit_code} while starting: "
                f"the reason is in {files.supervisor_log} or the newest file in {files.log}"
            )
    except (EmbeddedPostgresError, OSError) as error:
        package_logger.removeHandler(reports)
        reports.line(f"failed {error}")
        logger.error("%s", error)
        return 1
    package_logger.removeHandler(reports)
    reports.line("started")
    reports.end()
    logger.info("PostgreSQL started, process %d", postmaster.pid)
    return _end(files, postmaster, event or _next_event(files, events))


def _prepared(files: ClusterFiles, cache_dir: Path) -> Programs:
    processes_lock_fd = open_private(files.processes_lock)
    end_leftovers(files, processes_lock_fd)
    account = server_account(files.folder)
    binaries = runnable_binaries(wheel_binaries(), account, cache_dir)
    open_to_server(files, account)
    programs = programs_for(binaries, account, files, processes_lock_fd)
    prepare_cluster(programs)
    prune_logs(files.log)
    return programs


def _watch_users(files: ClusterFiles, events: queue.SimpleQueue[str]) -> None:
    users_lock_fd = open_private(files.users_lock)

    def wait_for_last_user() -> None:
        wait_for_lock(users_lock_fd)
        events.put(_LAST_USER_GONE)

    threading.Thread(target=wait_for_last_user, daemon=True).start()


def _event_before_ready(postmaster: Postmaster, events: queue.SimpleQueue[str]) -> str | None:
    """Wait until the server accepts connections (None), or for what comes before that."""
    began = time.monotonic()
    next_word_s = _PROGRESS_EVERY_S
    while not postmaster.accepts():
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=_POLL_S)
        waited_s = time.monotonic() - began
        if waited_s > next_word_s:
            next_word_s += _PROGRESS_EVERY_S
            logger.info("PostgreSQL is starting (recovering, if it had crashed), %.0f s so far", waited_s)
    return None


def _end(files: ClusterFiles, postmaster: Postmaster, event: str) -> int:
    logger.info("%s", event)
    if event == _SERVER_ENDED:
        logger.error("PostgreSQL ended with %s", postmaster.exit_code)
        return 1
    try:
        postmaster.stop()
    except EmbeddedPostgresError as error:
        logger.error("%s", error)
        return 1
    _remove_short_folder(files)
    logger.info("PostgreSQL stopped")
    return 0


def _next_event(files: ClusterFiles, events: queue.SimpleQueue[str]) -> str:
    while True:
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=_PRUNE_EVERY_S)
        prune_logs(files.log)


def _remove_short_folder(files: ClusterFiles) -> None:
    if files.socket_folder() != files.run:
        with contextlib.suppress(OSError):
            files.socket_folder().rmdir()


def _to_log() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ledger.embedded.supervisor", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="DATA_DIR/postgres")
    parser.add_argument("--cache-dir", type=Path, required=True, help="where root copies the binaries to")
    parser.add_argument("--lock-fd", type=int, required=True, help="descriptor that holds supervisor.lock")
    parser.add_argument("--report-fd", type=int, required=True, help="descriptor to report to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
