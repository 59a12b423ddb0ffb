"""A service as the supervisor sees one: a process that answers /readyz, and starts at once.

STAND_IN_MODE: `broken` says why on stderr and ends; `stubborn` ignores SIGTERM.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
from pathlib import Path


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"pid": os.getpid(), "ready": True}).encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name it overrides
        del format, arguments


def main() -> None:
    mode = os.environ.get("STAND_IN_MODE")
    if mode == "broken":
        sys.exit(json.dumps({"level": "ERROR", "message": "contract.yaml:7: write integer instead"}))
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    heard = {name: value for name, value in os.environ.items() if name.startswith(("DRP_", "OTEL_"))}
    Path(os.environ["DRP_HOME"], "heard.json").write_text(json.dumps(heard))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["DRP_HTTP_PORT"])), Pages).serve_forever()


if __name__ == "__main__":
    main()
