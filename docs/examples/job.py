"""Buy one job, wait for its result, take back what it did not use.

python docs/examples/job.py WORK INPUT_JSON [LIGHTNING_ADDRESS_OR_INVOICE]
"""

from __future__ import annotations

import json
import secrets
import sys
import time

from calls import bearer, call

ENDED = ("complete", "failed", "rejected", "expired")

work, work_input = sys.argv[1], json.loads(sys.argv[2])
# The same key makes a repeated request the same job: keep it until the answer is here.
order = {"work": work, "input": work_input}
job = call("POST", "/api/jobs", order, Idempotency_Key=secrets.token_hex(16))
print(f"At most {job['estimateSats']} sats. Its token, which opens it: {job['token']}")
if "invoice" in job:
    print(f"Pay: {job['invoice']['paymentRequest']}", flush=True)

token = bearer(job["token"])
while job["state"] not in ENDED:
    time.sleep(1)  # or follow /api/jobs/{id}/events, or be told by a webhook
    job = call("GET", f"/api/jobs/{job['id']}", Authorization=token)
print(f"{job['state']}: {json.dumps(job.get('result') or job.get('failureReason'))}")

if job["refundState"] == "pending":
    print(f"{job['refundAmountSats']} sats are yours to take back.", flush=True)
    destination = sys.argv[3] if len(sys.argv) > 3 else input("To which invoice or address? ")
    call("POST", f"/api/jobs/{job['id']}/refund", {"destination": destination}, Authorization=token)
    while job["refundState"] in ("pending", "paying"):
        time.sleep(1)
        job = call("GET", f"/api/jobs/{job['id']}", Authorization=token)
    print(f"Refund: {job['refundState']}")
