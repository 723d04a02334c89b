"""The generated stubs of `lnd-grpc-client`: the one place that imports them.

They stop at LND 0.15: a field, or the number of an enum, may be newer than they know, so readers go by
number. gRPC must be told before it is loaded: LND's certificate is ECDSA; its own log lines on stderr are
silenced, because every failure reaches us as a status; and whoever speaks gRPC here forks only to exec, so it must
not start its threads again in the child. It does by default, and one of them may find a file descriptor of the
parent and abort the child before it is the program that was asked for.
"""

from __future__ import annotations

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "HIGH+ECDSA"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from lndgrpc.compiled import invoices_pb2 as invoices
from lndgrpc.compiled import invoices_pb2_grpc as invoicesrpc
from lndgrpc.compiled import lightning_pb2 as ln
from lndgrpc.compiled import lightning_pb2_grpc as lnrpc
from lndgrpc.compiled import router_pb2 as router
from lndgrpc.compiled import router_pb2_grpc as routerrpc
from lndgrpc.compiled import stateservice_pb2 as state
from lndgrpc.compiled import stateservice_pb2_grpc as staterpc

__all__ = ["invoices", "invoicesrpc", "ln", "lnrpc", "router", "routerrpc", "state", "staterpc"]
