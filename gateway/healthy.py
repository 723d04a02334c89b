"""For health checks: `python -m gateway.healthy [serve|worker|watch]` exits with 0 when that process is usable.

A server is asked for `/readyz`; the others touch HEALTH_FILE while database and node answer. Standard library only,
because it runs every few seconds.
"""

import http.client
import os
import sys
import time
from pathlib import Path

OLDEST_BEAT_S = 15.0
ANSWER_WITHIN_S = 4.0


def server_is_ready(listen: str) -> bool:
    """`listen` as in BOLTWORKS_LISTEN; a wildcard is asked on loopback."""
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))  # noqa: S104 - asked, not bound
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def beats(file: Path, now_s: float) -> bool:
    """Whether the file was touched lately; `now_s` in seconds since the epoch."""
    try:
        return now_s - file.stat().st_mtime <= OLDEST_BEAT_S
    except FileNotFoundError:
        return False


def main(role: str) -> int:
    if role == "serve":
        return 0 if server_is_ready(os.environ.get("BOLTWORKS_LISTEN") or "127.0.0.1:8420") else 1
    return 0 if beats(Path(os.environ["BOLTWORKS_HEALTH_FILE"]), time.time()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "serve"))
