#!/bin/sh
# First program of the guest on the host's (read-only) file system: guest_init.sh PYTHON SERVER
# Everything that is written in the guest goes into memory: /run, /dev/shm.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mkdir -p /run/home /run/tmp /run/lock
ln -sfn /proc/self/fd /dev/fd
ip link set lo up
export HOME=/run/home TMPDIR=/run/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
exec "$1" -I -S "$2"
