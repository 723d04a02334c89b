"""Pays in once, asks as often as it lasts, closes, and takes back the rest. Python's own library only.

BOLTWORKS_URL=http://127.0.0.1:8420 python session.py 1000 markdown-pdf '{"markdown": "# Hello"}'
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

URL = os.environ["BOLTWORKS_URL"]


def call(method, path, body=None, token=None):
    """Status and answer; a refusal is an answer, too. The key makes a repeated request the same request."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if method == "POST":
        headers["Idempotency-Key"] = str(uuid.uuid4())
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def until(token, changed):
    while True:
        _, session = call("GET", "/api/sessions/current", token=token)
        if changed(session):
            return session
        time.sleep(1)


status, opened = call("POST", "/api/sessions", {"depositSats": int(sys.argv[1])})
if status != 201:
    sys.exit(f"{opened['code']}: {opened.get('detail')}")
# The token spends; only the refund key says where the rest goes. Keep them apart.
token, refund_key = opened["token"], opened["refundKey"]
print("Pay this:", opened["invoice"]["paymentRequest"], flush=True)
until(token, lambda session: session["state"] != "awaiting_deposit")

order = {"work": sys.argv[2], "input": json.loads(sys.argv[3])}
status, done = call("POST", "/api/sessions/current/requests", order, token)
if status == 200:
    print(json.dumps(done["result"], ensure_ascii=False)[:2000])
    print("It cost", done["chargedSats"], "sats;", done["balanceSats"], "are left.", flush=True)
else:
    # balance_too_low brings an invoice over what is missing: pay it, and ask again.
    print(f"{done['code']}: {done.get('detail')}", flush=True)

close = {"destination": input("The rest goes to: ").strip(), "refundKey": refund_key}
status, closed = call("POST", "/api/sessions/current/close", close, token)
if status >= 400:
    sys.exit(f"{closed['code']}: {closed.get('detail')}")
closed = until(token, lambda session: session["state"] == "closed" and session["refundState"] in ("paid", "none"))
print(closed["refundAmountSats"], "sats went back.")
