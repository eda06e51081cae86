#!/bin/busybox sh
# The first process of a machine that lives for a minute.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security
mkdir -p /run/netns /var
# Where ip keeps what it names.
ln -s /run /var/run
# Each as soon as those are in that it needs.
for pass in 1 2 3 4; do
    for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
done
ip link set lo up
echo 'the script begins'
sh /script 2>&1
poweroff -f
