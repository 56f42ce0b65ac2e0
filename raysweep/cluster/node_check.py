"""Checks that every node sees the run folder and has the same raysweep, before anything starts and where work arrives.

A node that joins later, for example from the autoscaler, is checked by the first work that it receives.  Without this
check, a folder that is not shared, or is mounted elsewhere, would show only after trainings, as a missing file.
"""

import importlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.cluster.functions import first_line
from raysweep.errors import ResourceError
from raysweep.staging.run_staging import StagingTicket
from raysweep.staging.worker_place import find_bucket_problem
from raysweep.storage.atomic_files import write_text
from raysweep.storage.digests import digest_code

_TIMEOUT_S = 60.0
_SEEN_WITHIN_S = 10.0
"""Seconds until a file may become visible on another node, because NFS clients cache folder contents."""
_NAMED = 5
_STORAGE_FIX = "--storage must be a folder that every node has at the same path (cluster.yaml: initialization_commands)"
_CODE_FIX = "install the same on every node (`ray up cluster.yaml` copies and installs it), and restart the nodes"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeCheck:
    """The state of the process that runs the sweep, for another process to compare with its own."""

    note: Path | None
    """A file in the run folder; None if no folder is shared, in which case only the code is compared."""
    nonce: str
    """The contents of the note."""
    code: str
    """Digest of the sweep process's raysweep."""
    ticket: StagingTicket | None = None
    """For a run in object storage, where nodes have their own disks: the bucket is checked instead of the note."""

    def find_problem(self) -> str:
        """Compare with this process, and confirm in a file beside the note; return '' if everything matches.

        The storage is checked first, since it may be right even if the code differs.
        """
        if problem := self._find_storage_problem():
            return problem
        if (here := digest_code()) != self.code:
            return f"its raysweep differs from the run's (code {here[:8]}, the run's {self.code[:8]}); {_CODE_FIX}"
        return ""

    def _find_storage_problem(self) -> str:
        if self.ticket is not None:
            return find_bucket_problem(self.ticket)
        return "" if self.note is None else self._find_folder_problem(self.note)

    def _find_folder_problem(self, note: Path) -> str:
        try:
            text = note.read_text(encoding="utf-8")
            if text != self.nonce:
                return f"{note} is another file here; {_STORAGE_FIX}"
            write_text(answer_to(note, socket.gethostname()), self.nonce)
        except FileNotFoundError:
            return f"{note} is not there; {_STORAGE_FIX}"
        except OSError as error:
            return f"{note.parent}: {error.strerror}; {_STORAGE_FIX}"
        return ""

    def require(self) -> None:
        """Raise ResourceError if this process differs; the check runs once per process."""
        if problem := _find_problem_once(self):
            raise ResourceError(f"node {socket.gethostname()}: {problem}")


@cache
def _find_problem_once(check: NodeCheck) -> str:
    return check.find_problem()


def answer_to(note: Path, host: str) -> Path:
    """Return the file with which a node confirms that it read the note."""
    return note.with_name(f"{note.name}.{host}")


def new_check(folder: Path, ticket: StagingTicket | None = None) -> NodeCheck:
    """Write a note into the folder, under a name that no node has looked up before."""
    nonce = secrets.token_hex(16)
    for earlier in folder.glob("note-*"):
        earlier.unlink(missing_ok=True)
    note = folder / f"note-{nonce[:8]}"
    write_text(note, nonce)
    return NodeCheck(note=note, nonce=nonce, code=digest_code(), ticket=ticket)


def check_nodes(check: NodeCheck) -> None:
    """Run the check on every node of the cluster; raises ResourceError naming those on which it failed."""

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    running = {}
    for node in nodes:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(num_cpus=0, max_retries=0)(make_probe(check))
        running[node["NodeManagerHostname"]] = task.options(name="check node", scheduling_strategy=where).remote()
    problems = [f"node {host}: {problem}" for host, problem in _outcomes(check, running) if problem]
    if problems:
        rest = f"\n… and {len(problems) - _NAMED} more nodes" if len(problems) > _NAMED else ""
        raise ResourceError("\n".join(problems[:_NAMED]) + rest)


def make_probe(check: NodeCheck) -> Callable[[], tuple[str, str]]:
    """Make the function that a node runs: it returns the node's name and its problem, '' if there is none."""
    note, nonce, code, fix, ticket = check.note, check.nonce, check.code, _CODE_FIX, check.ticket

    def find_problem() -> tuple[str, str]:
        # A nested function and what it refers to are sent by value; a module's function would require the same raysweep
        # there.
        host = socket.gethostname()
        try:
            ours = importlib.import_module("raysweep.cluster.node_check").NodeCheck
        except (ImportError, AttributeError) as error:
            return host, f"has not this raysweep ({error}); {fix}"
        return host, ours(note=note, nonce=nonce, code=code, ticket=ticket).find_problem()

    return find_problem


def _outcomes(check: NodeCheck, running: dict[str, Any]) -> Iterator[tuple[str, str]]:
    until = time.monotonic() + _TIMEOUT_S
    for name, task in running.items():
        try:
            host, problem = ray.get(task, timeout=max(0.1, until - time.monotonic()))
        except GetTimeoutError:
            yield name, f"did not answer within {_TIMEOUT_S:.0f} s"
        except RayError as error:
            yield name, f"could not be checked: {first_line(str(error))}"
        else:
            note = check.note if check.ticket is None else None
            yield host, problem or ("" if note is None else _find_unseen(note, host))


def _find_unseen(note: Path, host: str) -> str:
    """Check that a node which read the note can also write where this process reads."""
    until = time.monotonic() + _SEEN_WITHIN_S
    while not (answer := answer_to(note, host)).exists():
        if time.monotonic() > until:
            return f"what it wrote to {answer} is not seen on {os.uname().nodename}; {_STORAGE_FIX}"
        time.sleep(0.1)
    return ""
