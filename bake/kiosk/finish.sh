#!/bin/sh
# Lays the recipe over the packages that were installed and packs the root file system:
#
#   finish.sh PACKAGES.TAR OVERLAY CUSTOMIZE OUT
#
# writes OUT/rootfs.tar, and to OUT/tree what boots the base from outside of it. It runs as root in
# name spaces of its own: what it mounts is gone when it ends, however it ends.
set -eu
installed=$1 overlay=$2 customize=$3 out=$4
root=$out/root

mkdir "$root" "$out/tree"
tar --numeric-owner --xattrs --xattrs-include='*' -xpf "$installed" -C "$root"
cp -a "$overlay/." "$root/"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
sh "$customize" "$root"
umount "$root/proc"
umount -l "$root/dev"

cd "$root"
cp -R --parents boot usr/lib/shim usr/lib/grub "$out/tree"
rm -rf boot usr/lib/shim usr/lib/grub
mkdir boot
# The same tree gives the same bytes: in order, and no time of this day.
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --numeric-owner --xattrs --xattrs-include='*' \
	--format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
	--one-file-system -cf "$out/rootfs.tar" .
cd /
rm -rf "$root"
