"""Starts the process group of a training with several workers, with a store that listens on one address only.

With Ray's own `TorchConfig`, PyTorch's TCPStore listens on every interface, without a password.
"""

import logging
import socket
from datetime import timedelta
from typing import Any

import ray
import ray.exceptions
import ray.util
import torch.distributed as dist
from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_LOGGER = logging.getLogger(__name__)
_LEAVING_S = 30.0
_STORE: list[TCPStore] = []
"""The store that the first worker's process keeps open during the training."""


class OneAddressTorchConfig(TorchConfig):
    """A `TorchConfig` whose workers meet at the address by which Ray knows the first worker's node."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _OneAddressBackend


class _OneAddressBackend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Open the store in the first worker, and let all workers join the group."""
        assert isinstance(backend_config, TorchConfig)
        timeout = timedelta(seconds=backend_config.timeout_s)
        workers = len(worker_group)
        host, port = worker_group.execute_single(0, _open_store, workers, timeout)
        place = {"host": host, "port": port, "workers": workers, "timeout": timeout}
        backend = backend_config.backend or "nccl"
        ray.get(
            [
                worker_group.execute_single_async(rank, _join_group, rank, backend=backend, **place)
                for rank in range(workers)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:  # noqa: ARG002 Ray's signature
        """Leave the group; the store ends with it."""
        try:
            ray.get(worker_group.execute_async(_leave_group), timeout=_LEAVING_S)
        except ray.exceptions.GetTimeoutError:
            _LOGGER.warning("workers had not left their process group after %g s, and are ended", _LEAVING_S)


def _open_store(workers: int, timeout: timedelta) -> tuple[str, int]:
    """Open the store on this node's address in Ray, which is loopback for a locally started Ray."""
    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    _STORE[:] = [
        TCPStore(
            host,
            port,
            workers,
            is_master=True,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
    ]
    return host, port


def _join_group(rank: int, *, backend: str, host: str, port: int, workers: int, timeout: timedelta) -> None:
    store = TCPStore(host, port, workers, is_master=False, timeout=timeout, wait_for_workers=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=workers, timeout=timeout)


def _leave_group() -> None:
    dist.destroy_process_group()
    _STORE.clear()
