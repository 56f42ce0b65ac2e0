"""A cluster on one machine: namespaces as its nodes, with real sshd, and moto as its EC2.

Needs root, iproute2, util-linux, openssh-server, rsync, sudo, and a kernel with veth, bridge and overlay.  Nothing
leaves the machine: the nodes' network is a bridge in a namespace of its own, which has no way out.
"""
