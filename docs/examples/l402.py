"""Asks a model and pays for it on the way (L402): no account, no key. Python's own library only.

BOLTWORKS_URL=http://127.0.0.1:8420 python l402.py MODEL 'Say hello'
It prints an invoice; pay it with any wallet, and give the payment's preimage.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request

URL = os.environ["BOLTWORKS_URL"] + "/v1/chat/completions"
BODY = json.dumps({"model": sys.argv[1], "messages": [{"role": "user", "content": sys.argv[2]}]}).encode()


def ask(credential=None):
    headers = {"Content-Type": "application/json"}
    if credential:
        headers["Authorization"] = f"L402 {credential}"
    return json.load(urllib.request.urlopen(urllib.request.Request(URL, BODY, headers)))


try:
    answer = ask()
except urllib.error.HTTPError as refused:
    if refused.code != 402:
        raise
    said = dict(re.findall(r'([a-z]+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
    print("Pay this:", said["invoice"], flush=True)
    preimage = input("Its preimage: ").strip()
    # Keep both: they pay for your next requests, too, and fetch back what is left.
    answer = ask(f"{said['token']}:{preimage}")
print(answer["choices"][0]["message"]["content"])
