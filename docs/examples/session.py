"""Pay in once, ask as often as it lasts, close, take back the rest.

python docs/examples/session.py SATS WORK INPUT_JSON [LIGHTNING_ADDRESS_OR_INVOICE]
"""

from __future__ import annotations

import json
import secrets
import sys
import time

from calls import Refused, bearer, call

deposit = {"depositSats": int(sys.argv[1])}
session = call("POST", "/api/sessions", deposit, Idempotency_Key=secrets.token_hex(16))
token = bearer(session["token"])
refund_key = session["refundKey"]  # keep it apart: whoever has only the token can not take the rest out
print(f"Pay: {session['invoice']['paymentRequest']}", flush=True)
while session["state"] == "awaiting_deposit":
    time.sleep(1)
    session = call("GET", "/api/sessions/current", Authorization=token)

order = {"work": sys.argv[2], "input": json.loads(sys.argv[3])}
try:
    done = call(
        "POST", "/api/sessions/current/requests", order, Authorization=token, Idempotency_Key=secrets.token_hex(16)
    )
    print(f"{json.dumps(done['result'])} cost {done['chargedSats']} sats, {done['balanceSats']} are left.", flush=True)
except Refused as refused:
    print(f"{refused.code}: {refused}", flush=True)  # balance_too_low: pay refused.body["invoice"] and ask again

destination = sys.argv[4] if len(sys.argv) > 4 else input("Where does the rest go? ")
session = call(
    "POST",
    "/api/sessions/current/close",
    {"destination": destination, "refundKey": refund_key},
    Authorization=token,
)
while session["state"] == "closing" or session["refundState"] in ("pending", "paying"):
    time.sleep(1)
    session = call("GET", "/api/sessions/current", Authorization=token)
print(f"Refund: {session['refundState']}, {session['refundAmountSats']} sats")
