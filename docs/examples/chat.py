"""A paid model through the unmodified OpenAI client (pip install openai); the key is a session's token.

TOKEN=bw_session_… python docs/examples/chat.py MODEL "QUESTION"
"""

from __future__ import annotations

import os
import sys

import openai
from calls import URL

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=os.environ["TOKEN"])
try:
    raw = client.chat.completions.with_raw_response.create(
        model=sys.argv[1], messages=[{"role": "user", "content": sys.argv[2]}]
    )
except openai.APIStatusError as error:
    sys.exit(f"{error.status_code}: {error.body}")  # 402: `invoice` in it tops the session up
print(raw.parse().choices[0].message.content)
print(f"It cost {raw.headers['x-boltworks-cost-sats']} sats, {raw.headers['x-boltworks-balance-sats']} are left.")
