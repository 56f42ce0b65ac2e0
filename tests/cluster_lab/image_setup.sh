# Runs as root in a new node, before its sshd: what the image and the region would give, and stand-ins for what needs
# the Internet.  /opt/lab is the lab's folder.
set -e
home=/home/ubuntu
# PyPI: the wheels that the lab has, and this machine's uv cache, of which the node has a writable copy.
mkdir -p /run/uv/upper /run/uv/work
mount -t overlay overlay -o lowerdir=/opt/uv-cache,upperdir=/run/uv/upper,workdir=/run/uv/work /opt/uv-cache
find /opt/uv-cache -path '/opt/uv-cache/archive-v0/*' -prune -o -exec chmod a+rwX {} +
mkdir -p /etc/uv
cp /opt/lab/uv.toml /etc/uv/uv.toml
printf '[global]\nno-index = true\nfind-links = /opt/lab/wheels\n' > /etc/pip.conf
rm -rf /etc/xdg/pip
# Python, as the image has it.
echo "export PATH=$(dirname "$(readlink -f /opt/lab/python3)"):\$PATH" > /etc/profile.d/lab.sh
# apt: the LAN has no way out, and the image has all that is asked for.
printf '#!/bin/bash\nexit 0\n' > /usr/local/sbin/apt-get
chmod 755 /usr/local/sbin/apt-get
# What this machine or one node has compiled is not compiled by the others.
echo "export PYTHONPYCACHEPREFIX=/opt/lab/bytecode NUMBA_CACHE_DIR=/opt/lab/kernels" >> /etc/profile.d/lab.sh
# Ray looks around more often than by default, since machines come in seconds here.
echo "export AUTOSCALER_UPDATE_INTERVAL_S=2 AUTOSCALER_NODE_SSH_INTERVAL_S=1" >> /etc/profile.d/lab.sh
echo "export RAY_health_check_period_ms=1000" >> /etc/profile.d/lab.sh
# Where AWS is; credentials come from the instance profile, through the instance's metadata.
echo "export AWS_ENDPOINT_URL=http://172.31.0.1:5000 AWS_REGION=eu-central-1" >> /etc/profile.d/lab.sh
# The instance's metadata, with spot notices and credentials: its own process, on the address that EC2 uses.
ip address add 169.254.169.254/32 dev lo
setsid nohup python3 /opt/lab/fake_imds.py > /run/imds.log 2>&1 < /dev/null &
