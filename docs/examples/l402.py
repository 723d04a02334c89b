"""Pay per request, without an account: the answer 402 brings an invoice and a token (L402).

python docs/examples/l402.py MODEL "QUESTION"
"""

from __future__ import annotations

import re
import sys

from calls import Refused, call

question = {"model": sys.argv[1], "messages": [{"role": "user", "content": sys.argv[2]}]}
try:
    call("POST", "/v1/chat/completions", question)
except Refused as refused:
    if refused.status != 402:
        raise
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
else:
    sys.exit("It asked for no payment.")

print(f"Pay: {challenge['invoice']}", flush=True)
preimage = input("The preimage that your wallet shows for it (64 hex digits): ").strip()
credential = f"L402 {challenge['token']}:{preimage}"
answer = call("POST", "/v1/chat/completions", question, Authorization=credential)
print(answer["choices"][0]["message"]["content"])
left = call("GET", "/api/sessions/current", Authorization=credential)
print(f"{left['balanceSats']} sats are left on it: {credential}")
