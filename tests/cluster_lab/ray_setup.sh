# Runs as root in a new node that has nothing of a cloud: its small disk for runs.
set -e
mkdir -p /var/staging
mount -t tmpfs -o size=300m tmpfs /var/staging
