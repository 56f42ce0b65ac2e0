"""No test sees what the terminal, or the CI, that it runs in asks of programs: colours, widths, a proxy for its own."""

import os

for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
    # Before typer and rich are imported, which ask for them once.
    os.environ.pop(name, None)
if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
    reached = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, reached))
