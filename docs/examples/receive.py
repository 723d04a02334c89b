"""Be told of jobs and refunds: verify the signature, note the id, answer 204 (pip install standardwebhooks).

SECRET=whsec_… PORT=8500 python docs/examples/receive.py
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["SECRET"])
seen: set[str] = set()  # yours: a table with a unique column


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = webhook.verify(body, dict(self.headers.items()))
        except WebhookVerificationError:
            self.answer(401)
            return
        if (number := self.headers["webhook-id"]) not in seen:  # at least once: it may come again
            seen.add(number)
            print(event["type"], event["data"].get("jobId") or event["data"].get("sessionId"), flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8500"))), Receiver)
print(f"Listening on {server.server_port}", flush=True)
server.serve_forever()
