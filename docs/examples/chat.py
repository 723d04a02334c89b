"""Asks a model through the unmodified OpenAI client (`pip install openai`); a session's token is the key.

BOLTWORKS_URL=http://127.0.0.1:8420 TOKEN=bw_session_… python chat.py MODEL 'Say hello'
"""

import os
import sys

import openai

client = openai.OpenAI(base_url=os.environ["BOLTWORKS_URL"] + "/v1", api_key=os.environ["TOKEN"])
question = [{"role": "user", "content": sys.argv[2]}]
try:
    raw = client.chat.completions.with_raw_response.create(model=sys.argv[1], messages=question)
except openai.APIStatusError as refused:
    # 402: `invoice` in it tops the session up by what is missing.
    sys.exit(f"{refused.status_code}: {refused.body}")
print(raw.parse().choices[0].message.content)
print("It cost", raw.headers["x-boltworks-cost-sats"], "sats;", raw.headers["x-boltworks-balance-sats"], "are left.")
