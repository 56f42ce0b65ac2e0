"""On which addresses processes listen."""

import ipaddress
import re
import shutil
import subprocess

import psutil


def exposed_listeners(processes):
    """Addresses outside the loopback interface on which they listen."""
    found = []
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for connection in connections:
            address = ipaddress.ip_address(connection.laddr.ip)
            address = getattr(address, "ipv4_mapped", None) or address
            if connection.status == psutil.CONN_LISTEN and not address.is_loopback:
                found.append((process.name(), connection.laddr))
    return found


def listening_as_ss_says(processes):
    """Local addresses on which they listen, as `ss -ltnp` lists them; None where there is no ss."""
    if shutil.which("ss") is None:
        return None
    listed = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    pids = {process.pid for process in processes}
    lines = [line for line in listed.splitlines() if pids & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}]
    return [line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0] for line in lines]
