# The first process of a node: gives it a disk, a name, its user and an sshd, and stays.  Its parameters are variables.
set -euo pipefail
mount --make-rprivate /
mkdir -p "$DISK"
mount -t tmpfs -o size=6g,mode=755 tmpfs "$DISK"
mkdir -p "$DISK/upper" "$DISK/work" "$DISK/root"
# A writable copy of this machine's files.
mount -t overlay overlay -o "lowerdir=/,upperdir=$DISK/upper,workdir=$DISK/work" "$DISK/root"
root=$DISK/root
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=8g,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o size=4g,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/run/sshd"
# A fresh machine has nobody's tokens, keys, clouds, nor the project's folder.
rm -rf "$root/root/.ray" "$root/root/.ssh" "$root/root/.aws" "$root/root/.config"
chroot "$root" useradd -m -p '*' -s /bin/bash ubuntu
for bind in $BINDS; do
    from=${bind%%:*} to=${bind#*:}
    mkdir -p "$root$to"
    mount --rbind "$from" "$root$to"
done
# Where this machine's Python may be, which the node's user runs too.
chmod 755 "$root/root"
for place in ${READABLE:-}; do
    # The node's /tmp is empty.
    case $place in /tmp/*) mkdir -p "$root$place"; mount --rbind "$place" "$root$place"; place=$(dirname "$place") ;; esac
    while [ "$place" != / ]; do chmod a+rx "$root$place"; place=$(dirname "$place"); done
done
hostname "$NAME"
{ echo "127.0.0.1 localhost"; for ip in $IPS; do echo "$ip $NAME"; done; } > "$root/etc/hosts"
echo > "$root/etc/resolv.conf"
echo "ubuntu ALL=(ALL) NOPASSWD:ALL" > "$root/etc/sudoers.d/90-lab"
chmod 440 "$root/etc/sudoers.d/90-lab"
if [ -n "$PUBLIC_KEY" ]; then
    install -d -m 700 "$root/home/ubuntu/.ssh"
    install -m 600 "$PUBLIC_KEY" "$root/home/ubuntu/.ssh/authorized_keys"
    chroot "$root" chown -R ubuntu: /home/ubuntu/.ssh
fi
echo "$ROLE" > "$root/run/role"
cp "$SETUP" "$root/run/setup.sh"
chroot "$root" bash /run/setup.sh
chroot "$root" bash -c 'rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -N "" -t ed25519 -f /etc/ssh/ssh_host_ed25519_key'
chroot "$root" /usr/sbin/sshd -E /run/sshd.log -o UsePAM=no -o UseDNS=no -o MaxSessions=50 -o MaxStartups=50:30:100
touch "$root/run/ready"
exec chroot "$root" bash -c 'trap "" HUP; while :; do sleep 1000 & wait -n; done'
