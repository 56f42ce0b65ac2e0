"""Sends a notification when a run ends: a command or a webhook receives the run's name, its state and the verdict.

No part of the message passes through a shell: a command is a list of arguments, with the message as
its last argument and its parts in environment variables.  A failed notification is logged and does not change how
the run ends.
"""

import json
import logging
import os
import subprocess
import urllib.request
from base64 import b64encode
from dataclasses import asdict, dataclass
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from raysweep.config.budget_settings import Event, NotifyConfig
from raysweep.config.secrets import address_of, expand, hide_values
from raysweep.errors import ConfigError
from raysweep.storage.printable import printable_message

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """The contents of a notification."""

    run: str
    state: Event
    """How the run ended: done, failed, or budget (stopped at its cap)."""
    done: int
    """Number of trials that are done."""
    trials: int
    verdict: str
    """The report's answer in one line; '' without a report."""
    reason: str
    """Why the first unfinished trial is not done; '' if all trials are done."""

    @property
    def text(self) -> str:
        """The message as one line."""
        parts = [f"{self.run}: {self.state}, {self.done} of {self.trials} trials are done", self.reason, self.verdict]
        return ". ".join(part.rstrip(".") for part in parts if part)


def notify(config: NotifyConfig | None, message: Message) -> list[str]:
    """Send the notification if the config asks for this state; return what failed and why."""
    if config is None or message.state not in config.on:
        return []
    problems = []
    if config.command is not None and (problem := _run(config.command, message, config.timeout_s)):
        problems.append(f"notify.command: {problem}")
    if config.webhook is not None and (problem := _post(config.webhook, message, config.timeout_s)):
        problems.append(f"notify.webhook: {problem}")
    problems = [printable_message(hide_values(problem, config)) for problem in problems]
    for problem in problems:
        logger.warning("%s", problem)
    return problems


def _run(command: tuple[str, ...], message: Message, timeout_s: float) -> str:
    parts = {f"RAYSWEEP_{name.upper()}": str(value) for name, value in asdict(message).items()}
    # Arguments and environment variables must not contain a null byte.
    parts = {name: value.replace("\0", "") for name, value in parts.items()}
    try:
        command = tuple(expand(word, "notify.command") for word in command)
        done = subprocess.run(
            [*command, message.text.replace("\0", "")],
            env={**os.environ, **parts},
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]}: timed out after {timeout_s:g} s"
    except (OSError, ValueError, ConfigError) as error:
        return f"{command[0]}: {error}"
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    return f"{command[0]} ended with {done.returncode}{': ' + last[0] if last else ''}" if done.returncode else ""


def _post(webhook: str, message: Message, timeout_s: float) -> str:
    body = json.dumps({**asdict(message), "text": message.text}, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "raysweep"}
    server = "the address"
    try:
        url = expand(webhook, "notify.webhook")
        server = urlsplit(address_of(url)).netloc
        with urllib.request.urlopen(_request(url, body, headers), timeout=timeout_s):
            return ""
    except (OSError, ValueError, HTTPException, ConfigError) as error:
        # The URL may hold a secret, so only the server is named.
        return f"{server}: {error}"


def _request(url: str, body: bytes, headers: dict[str, str]) -> urllib.request.Request:
    """Build the request; the URL's user and password move to the Authorization header, where servers expect them."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with https:// or http://")
    parts = urlsplit(url)
    user, _, server = parts.netloc.rpartition("@")
    if user:
        headers |= {"Authorization": "Basic " + b64encode(unquote(user).encode()).decode()}
        url = parts._replace(netloc=server).geturl()
    return urllib.request.Request(url, data=body, headers=headers)
