"""S3 alone on the lab's LAN, for tests that need no EC2; answers 503 to everything while the file DOWN is there.

ip netns exec LAN python -m tests.cluster_lab.fake_s3 DOWN
"""

import sys
import time
from pathlib import Path

from tests.cluster_lab.namespaces import GATEWAY
from tests.staging.object_server import ObjectServer

if __name__ == "__main__":
    down = Path(sys.argv[1])
    server = ObjectServer(GATEWAY, 5000)
    print("ready", flush=True)
    while True:
        server.gate.is_down = down.exists()
        time.sleep(0.1)
