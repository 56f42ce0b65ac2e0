"""The addresses on which processes listen."""

import ipaddress
import re
import secrets
import shutil
import socket
import subprocess
from contextlib import suppress

import psutil


def free_port():
    """Return a port that nobody uses, and that neither the kernel nor Ray gives to others before it is used."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def exposed_listeners(processes):
    """Return the addresses outside the loopback interface on which the processes listen."""
    addresses = []
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for connection in connections:
            address = ipaddress.ip_address(connection.laddr.ip)
            address = getattr(address, "ipv4_mapped", None) or address
            if connection.status == psutil.CONN_LISTEN and not address.is_loopback:
                addresses.append((process.name(), connection.laddr))
    return addresses


def listening_as_ss_says(processes):
    """Return the local addresses on which the processes listen according to `ss -ltnp`; None if ss is missing."""
    if shutil.which("ss") is None:
        return None
    listed = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    pids = {process.pid for process in processes}
    lines = [line for line in listed.splitlines() if pids & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}]
    return [line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0] for line in lines]
