"""EC2's metadata service of one node (version 2).

It has the credentials of the instance profile that /run/role names, if any, and a spot notice once the file /run/notice
is there.
"""

import datetime
import http.server
import json
from pathlib import Path

TOKEN = "AQAAtoken"
CREDENTIALS = "/latest/meta-data/iam/security-credentials"


def credentials():
    """Temporary ones, as AWS gives them to an instance."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIATESTING",
        "SecretAccessKey": "testing",
        "Token": "testing",
        "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Expiration": (now + datetime.timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as EC2 does: 401 without the token of this session, 404 while there is no notice."""

    def _answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        is_asked_right = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(*((200, TOKEN.encode()) if is_asked_right else (400,)))

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401)
        elif self.path == "/latest/meta-data/spot/instance-action" and Path("/run/notice").exists():
            then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=120)
            notice = {"action": "terminate", "time": then.strftime("%Y-%m-%dT%H:%M:%SZ")}
            self._answer(200, json.dumps(notice).encode())
        elif self.path.startswith(CREDENTIALS) and (role := Path("/run/role").read_text().strip()):
            # AWS's own clients ask with and without the slash.
            is_name = self.path.rstrip("/") == CREDENTIALS
            self._answer(200, (role if is_name else json.dumps(credentials())).encode())
        else:
            self._answer(404)

    def log_message(self, *_):
        """Print nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("169.254.169.254", 80), Handler).serve_forever()
