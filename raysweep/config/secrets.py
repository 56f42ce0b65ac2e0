"""Handles secrets of the config: `${NAME}` in `notify.webhook` and `notify.command` is an environment variable.

A config keeps the `${NAME}`; the value is looked up only where it is used.  A secret that was nevertheless written into
the config is not recorded: `recorded_notify` is the section that may be written to config.yaml.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from raysweep.config.budget_settings import NotifyConfig
from raysweep.errors import ConfigError
from raysweep.storage.printable import HIDDEN, shown, without_secrets

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
MESSAGE_VARIABLES = {f"RAYSWEEP_{name}" for name in ("RUN", "STATE", "DONE", "TRIALS", "VERDICT", "REASON")}
"""Variables that a notification's command gets with the message; they are expanded by a shell in the command."""
_SHORTEST_SECRET = 4
"""Shorter values are not replaced in messages, because they could be parts of words."""


def expand(text: str, place: str) -> str:
    """Replace environment variables by their values; raises ConfigError naming the place and an unset variable."""
    if problems := _find_problems(text):
        raise ConfigError(f"{place}: {problems[0]}")
    return _VARIABLE.sub(lambda match: match[0] if _is_left(match[1]) else os.environ[match[1]], text)


def refuse_unset(notify: NotifyConfig | None) -> None:
    """Raise ConfigError with a line for each variable of the notifications that is not set."""
    if problems := [f"{place}: {problem}" for place, text in _texts(notify) for problem in _find_problems(text)]:
        raise ConfigError(*problems)


def hide_values(message: str, notify: NotifyConfig | None) -> str:
    """Replace values by their `${NAME}` in a message, and remove the secrets of URLs."""
    for _, text in _texts(notify):
        for name in _VARIABLE.findall(text):
            if len(value := os.environ.get(name, "")) >= _SHORTEST_SECRET and not _is_left(name):
                message = message.replace(value, f"${{{name}}}")
        if text.startswith(("http://", "https://")) and not _VARIABLE.search(text):
            message = message.replace(text, address_of(text))
    return without_secrets(message)


def recorded_notify(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notify section without secrets: the webhook's server, the program's name, and `${NAME}`s."""
    kept = dict(values)
    if webhook := kept.get("webhook"):
        kept["webhook"] = without_secrets(webhook) if _VARIABLE.search(webhook) else address_of(webhook)
    if command := kept.get("command"):
        words = (without_secrets(word) if _VARIABLE.search(word) else HIDDEN for word in command[1:])
        kept["command"] = [command[0], *words]
    return kept


def recorded_override(override: str) -> str:
    """Return a `--set` value without secrets."""
    path, _, value = override.partition("=")
    is_secret = path.split(".")[0] == "notify" and path.split(".")[-1] not in ("on", "timeout_s")
    return f"{path}={HIDDEN}" if is_secret and not _VARIABLE.fullmatch(value) else without_secrets(override)


def find_unread_variables(values: Any, path: str = "") -> list[tuple[str, str]]:
    """Find settings outside `notify` that name an environment variable, which is not expanded there."""
    if isinstance(values, Mapping):
        inner = [(f"{path}.{name}".strip("."), value) for name, value in values.items() if path or name != "notify"]
        return [problem for place, value in inner for problem in find_unread_variables(value, place)]
    if isinstance(values, list | tuple):
        return [problem for value in values for problem in find_unread_variables(value, path)]
    if isinstance(values, str) and _VARIABLE.search(values):
        where = "environment variables are looked up in notify.webhook and notify.command alone"
        return [(path, f"found {shown(values)}; {where}. Write the value, or give it with --set")]
    return []


def address_of(url: str) -> str:
    """Return the scheme and server of a URL, without its user, its path (a secret at many services) and its query."""
    parts = urlsplit(url)
    server = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{server}" + ("" if parts.path in ("", "/") and not parts.query else f"/{HIDDEN}")


def _texts(notify: NotifyConfig | None) -> list[tuple[str, str]]:
    if notify is None:
        return []
    webhook = [("notify.webhook", notify.webhook)] if notify.webhook else []
    return webhook + [("notify.command", word) for word in notify.command or ()]


def _find_problems(text: str) -> list[str]:
    problems = []
    for name in _VARIABLE.findall(text):
        if not _NAME.match(name):
            problems.append(f"found {shown('${' + name + '}')}; must be the name of an environment variable")
        elif name not in os.environ and not _is_left(name):
            problems.append(f"the environment variable {name[:60]} is not set; set it before the command")
    return problems


def _is_left(name: str) -> bool:
    return name in MESSAGE_VARIABLES
