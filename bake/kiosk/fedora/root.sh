#!/bin/sh
# What is done to the root file system TREE of a Fedora, as root in name spaces of its own: what is mounted
# here is gone when this ends, however it ends.
#
#   root.sh missing TREE PACKAGE...                   prints those that are not installed
#   root.sh install TREE CACHE PACKAGE...             installs them; CACHE keeps what dnf downloads
#   root.sh finish TREE OVERLAY CUSTOMIZE RELEASE OUT lays OVERLAY over it and runs CUSTOMIZE; writes
#                                                     OUT/initrd.img for the kernel RELEASE, and OUT/packages
set -eu
verb=$1 tree=$2
shift 2
inside() { chroot "$tree" "$@"; }

for dir in proc sys dev run tmp var/tmp; do
	[ -d "$tree/$dir" ] || mkdir -p "$tree/$dir"
done
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
for dir in run tmp var/tmp; do
	mount -t tmpfs -o mode=1777 tmpfs "$tree/$dir"
done
if [ ! -x "$tree/usr/bin/rpm" ]; then
	echo "the root has no /usr/bin/rpm" >&2
	exit 1
fi

case $verb in
missing)
	for name; do
		inside rpm -q --whatprovides "$name" >/dev/null 2>&1 || echo "$name"
	done
	;;
install)
	cache=$1
	shift
	for dir in var/cache/libdnf5 var/cache/dnf; do
		mkdir -p "$tree/$dir"
		mount --bind "$cache" "$tree/$dir"
	done
	# The names of this machine's network. In a Fedora the file is a link into /run, which is ours here.
	if [ -L "$tree/etc/resolv.conf" ]; then
		target=$(readlink "$tree/etc/resolv.conf")
		case $target in
		/run/* | ../run/*)
			mkdir -p "$tree/run/${target#*run/}"
			rmdir "$tree/run/${target#*run/}"
			cat /etc/resolv.conf >"$tree/run/${target#*run/}"
			;;
		esac
	elif [ -f "$tree/etc/resolv.conf" ]; then
		mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"
	fi
	inside dnf -y --setopt=install_weak_deps=False --setopt=keepcache=True --setopt=tsflags=nodocs install "$@"
	;;
finish)
	overlay=$1 customize=$2 release=$3 out=$4
	# Into the folders that are there and through their links: /lib is one. Their owners, modes and labels stay.
	(cd "$overlay" && find . -type d) | while read -r dir; do
		[ -d "$tree/$dir" ] || { mkdir -p "$tree/$dir" && chmod 755 "$tree/$dir"; }
	done
	(cd "$overlay" && find . ! -type d) | while read -r file; do
		cp -p --remove-destination "$overlay/$file" "$tree/$file"
	done
	sh "$customize" "$tree" "$release"
	inside dracut --force --no-hostonly --reproducible --kver "$release" --add "dmsquash-live plymouth" \
		--add-drivers "loop erofs overlay ext4 isofs sr_mod" /tmp/isofs-initrd.img
	[ -s "$tree/tmp/isofs-initrd.img" ] || {
		echo "dracut made no initrd" >&2
		exit 1
	}
	cat "$tree/tmp/isofs-initrd.img" >"$out/initrd.img"
	inside rpm -qa --qf '%{NAME} %{EVR}\n' | LC_ALL=C sort >"$out/packages"
	# What boots the base is outside of it.
	find "$tree/boot" -mindepth 1 -maxdepth 1 -exec rm -rf {} + 2>/dev/null || :
	# Last: labels for what is new, as the policy has them. They are kept in the EROFS.
	contexts=/etc/selinux/targeted/contexts/files/file_contexts
	if [ -f "$tree$contexts" ] && [ -x "$tree/usr/sbin/setfiles" ]; then
		inside setfiles -F -e /proc -e /sys -e /dev -e /run -e /tmp -e /var/tmp "$contexts" /
	fi
	;;
esac
