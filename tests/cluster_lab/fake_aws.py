"""EC2, IAM and S3 of moto on the lab's LAN, and a node of the lab for every instance that runs.

    ip netns exec LAN python fake_aws.py LAB_FOLDER BIND...

An instance's node has the private address that moto gave it, and a second one of the LAN as its "public" address;
the key pair's public key for `ubuntu`.  Prints 'ready', then a line for every node that starts or ends.
"""

import sys
import threading
import time
from itertools import count
from pathlib import Path

import boto3
import moto.ec2.utils  # noqa: F401 - or there is nothing to adapt yet
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.config import default_user_config
from moto.ec2 import ec2_backends
from moto.ec2.responses.instances import InstanceResponse
from moto.server import ThreadedMotoServer

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cluster_lab.namespaces import GATEWAY, HERE, Lab

REGION = "eu-central-1"
ANSWER_WITHIN_S = 20.0
_numbers = count(1)


def _public_ip(*_, **__):
    """An address of the LAN: nothing in the lab names one of the real Internet."""
    return f"172.31.250.{next(_numbers)}"


def _adapt_moto(machines):
    # moto starts MinCount instances, and Ray asks for 1 to N; EC2 gives as many as it can.
    own = InstanceResponse._get_param

    def get(self, name, *rest, **named):
        return own(self, "MaxCount" if name == "MinCount" else name, *rest, **named)

    InstanceResponse._get_param = get
    # EC2 answers at once, and Ray then asks every five seconds whether sshd is there.  Here machines take two seconds,
    # so the answer waits for them.
    run = InstanceResponse.run_instances

    def run_and_wait(self):
        answer = run(self)
        machines.follow()
        machines.wait()
        return answer

    InstanceResponse.run_instances = run_and_wait
    for name, module in list(sys.modules.items()):
        if name.startswith("moto.ec2") and hasattr(module, "random_public_ip"):
            module.random_public_ip = _public_ip


class Machines:
    """Starts and ends nodes as EC2 says."""

    def __init__(self, lab, binds):
        self.lab, self.binds = lab, binds
        self.names = {}
        self.gone = set()
        self._starting = []
        self._lock = threading.Lock()

    def follow(self):
        """Look at the instances once."""
        with self._lock:
            self._follow(ec2_backends[DEFAULT_ACCOUNT_ID][REGION])

    def wait(self):
        """Return when those that start now have an sshd, or before the client takes the answer for lost."""
        until = time.monotonic() + ANSWER_WITHIN_S
        for thread in list(self._starting):
            thread.join(max(0.0, until - time.monotonic()))

    def _follow(self, backend):
        for instance in [
            instance for reservation in backend.reservations.values() for instance in reservation.instances
        ]:
            state = instance._state.name
            if state == "running" and instance.id not in self.names:
                self.names[instance.id] = f"i{instance.id[-6:]}"
                self._starting = [thread for thread in self._starting if thread.is_alive()]
                self._starting.append(threading.Thread(target=self._start, args=(backend, instance), daemon=True))
                self._starting[-1].start()
            if state in ("terminated", "shutting-down", "stopped") and instance.id in self.names.keys() - self.gone:
                self.gone.add(instance.id)
                self.lab.cut_power(self.names[instance.id])
                print(time.strftime("%T"), "ended", self.names[instance.id], flush=True)

    def _start(self, backend, instance):
        name = self.names[instance.id]
        material = backend.key_pairs[instance.key_name].material_public
        key = self.lab.folder / f"{name}.pub"
        key.write_text(material if isinstance(material, str) else material.decode())
        ips = [ip for ip in (instance.private_ip, instance.public_ip) if ip]
        role = _profile_of(backend, instance)
        self.lab.start(name, ips, binds=self.binds, setup=HERE / "image_setup.sh", public_key=key, role=role)
        lifecycle = getattr(instance, "lifecycle", None) or "on-demand"
        print(time.strftime("%T"), "started", name, instance.instance_type, lifecycle, flush=True)


def _profile_of(backend, instance):
    """The instance profile's name: moto gives it to the first of the instances that are started together."""
    (together,) = [
        reservation.instances for reservation in backend.reservations.values() if instance in reservation.instances
    ]
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for machine in together:
            if association := backend.iam_instance_profile_associations.get(machine.id):
                return association.iam_instance_profile.name
        time.sleep(0.05)
    return ""


def main():
    """Serve until killed."""
    folder, *binds = sys.argv[1:]
    machines = Machines(Lab(folder), binds)
    _adapt_moto(machines)
    default_user_config["iam"] = {"load_aws_managed_policies": True}
    ThreadedMotoServer(ip_address=GATEWAY, port=5000, verbose=False).start()
    # As after an earlier `raysweep cluster prepare`, which saves its wait until a new role is known everywhere.
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    iam = boto3.client("iam", endpoint_url=f"http://{GATEWAY}:5000", region_name=REGION, **keys)
    for name in ("raysweep-head", "raysweep-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    print("ready", flush=True)
    while True:
        machines.follow()
        time.sleep(0.3)


if __name__ == "__main__":
    main()
