"""Buys a job, waits for its payment and its result. Python's own library only.

BOLTWORKS_URL=http://127.0.0.1:8420 python buy_a_job.py markdown-pdf '{"markdown": "# Hello"}'
"""

import json
import os
import sys
import urllib.request
import uuid

URL = os.environ["BOLTWORKS_URL"]


def call(method, path, body=None, token=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    return urllib.request.urlopen(urllib.request.Request(URL + path, data, sent, method=method))


def buy(work, work_input):
    # The same key, sent again, is the same job: safe to repeat after a broken connection.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    return json.load(call("POST", "/api/jobs", {"work": work, "input": work_input}, headers=key))


def follow(job):
    """The job at each of its changes, until it has ended."""
    for line in call("GET", f"/api/jobs/{job['id']}/events", token=job["token"]):
        if line.startswith(b"data: "):
            seen = json.loads(line[6:])
            yield seen
            if seen["state"] in ("complete", "failed", "rejected", "expired"):
                return


job = buy(sys.argv[1], json.loads(sys.argv[2]))
if "invoice" in job:
    print("Pay this:", job["invoice"]["paymentRequest"], flush=True)
for seen in follow(job):
    print(seen["state"], flush=True)
print(json.dumps(seen.get("result"), ensure_ascii=False)[:2000])
print("It cost", seen.get("userChargeSats", 0), "sats;", seen["refundAmountSats"], "sats are owed back:")
print(f"curl -s {URL}/api/jobs/{job['id']}/refund -H 'Authorization: Bearer {job['token']}' \\")
print("     -H 'Content-Type: application/json' -d '{\"destination\": \"you@wallet.example\"}'")
