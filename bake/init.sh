#!/bin/sh
# The first program of the flavor tiny: mounts FEDAC-LIVE and FEDAC-PIECE, says
# on every console what it found there, one line each, and stays.
#
#   ISOFS-BOOT flavor=tiny version=<version>
#   ISOFS-MEDIUM medium=<disk or cd> device=<of FEDAC-LIVE, or the CD-ROM's> firmware=<uefi or bios> secureboot=<on or off>
#   ISOFS-LIVE <the line of base-id>
#   ISOFS-PIECE sha256=<of piece.html> size=<its bytes>
#   ISOFS-TITLE <title of the page>
#   ISOFS-JSON <piece.json on one line, or null>
#   ISOFS-OK
#
# or, wherever it ends, ISOFS-FAIL <reason>; a piece.html that is not the one
# that piece.json names is such a reason. With isofs.poweroff on the kernel
# command line the machine is then switched off.

PATH=/bin
export PATH
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# Nothing of the kernel's between our lines.
dmesg -n 1

# The consoles of the kernel command line, "tty0 ttyS0".
consoles=$(cat /sys/class/tty/console/active 2>/dev/null)
: "${consoles:=console}"

# say prints a line on every console. A console without hardware is no error.
say() {
	for c in $consoles; do
		{ printf '%s\r\n' "$*" >"/dev/$c"; } 2>/dev/null
	done
}

# show prints on the screen only.
show() {
	# shellcheck disable=SC2059 # the format is ours
	{ printf "$@" >/dev/tty0; } 2>/dev/null
}

# offer waits on a console for somebody who wants a shell.
offer() {
	tty=$1
	[ "$tty" = tty0 ] && tty=tty1
	[ -c "/dev/$tty" ] || return
	# shellcheck disable=SC2016 # expanded by that shell
	setsid -c sh -c 'while :; do
		printf "\r\nPress Enter for a shell.\r\n"
		if read -r _; then sh; else sleep 5; fi
	done' <"/dev/$tty" >"/dev/$tty" 2>&1 &
}

# rest is where every boot ends.
rest() {
	sync
	if grep -qw isofs.poweroff /proc/cmdline; then
		poweroff -f
	fi
	for c in $consoles; do
		offer "$c"
	done
	while :; do
		wait
		sleep 3600
	done
}

fail() {
	say "ISOFS-FAIL $*"
	show '\n \033[1;31m This base cannot show its piece: %s \033[0m\n' "$*"
	rest
}

# cds makes devices of the partitions on CD-ROMs, where Linux looks for none:
# once for each, in which there is a disc.
cds() {
	for sr in /sys/block/sr*; do
		sr=${sr##*/}
		[ -b "/dev/$sr" ] || continue
		[ -e "/tmp/$sr" ] && continue
		loop=$(losetup -f)
		if losetup -r -P "$loop" "/dev/$sr" 2>/dev/null; then
			: >"/tmp/$sr"
			echo "/dev/$sr" >"/tmp/${loop##*/}"
		fi
	done
}

# part prints the device that has a label, which may take a while to appear.
part() {
	tries=0
	while [ $tries -lt 100 ]; do
		cds
		dev=$(findfs "LABEL=$1" 2>/dev/null) && [ -b "$dev" ] && {
			echo "$dev"
			return 0
		}
		tries=$((tries + 1))
		usleep 200000
	done
	return 1
}

# medium says what a partition is on, and what started this machine.
medium() {
	medium=disk device=$1
	loop=${1#/dev/}
	loop=${loop%p*}
	[ -f "/tmp/$loop" ] && medium=cd device=$(cat "/tmp/$loop")
	firmware=bios secureboot=off
	[ -d /sys/firmware/efi ] && firmware=uefi
	dmesg | grep -q 'Secure boot enabled' && secureboot=on
	echo "medium=$medium device=$device firmware=$firmware secureboot=$secureboot"
}

# clean keeps a text from steering the terminal or making a second line.
clean() {
	tr '\n\r\t' '   ' | tr -d '\000-\037\177' | sed 's/^ *//; s/ *$//'
}

show '\033[H\033[2J'
say "ISOFS-BOOT $(cat /etc/isofs-version)"

# In the order in which they need each other. One that finds no hardware of
# its own refuses, which is all right.
while read -r m; do
	insmod "/modules/$m.ko" 2>/dev/null
done </modules/order

live=$(part FEDAC-LIVE) || fail "no partition with the label FEDAC-LIVE"
say "ISOFS-MEDIUM $(medium "$live")"
mount -t ext4 -o ro,noload "$live" /live || fail "cannot mount FEDAC-LIVE ($live)"
[ -f /live/LiveOS/squashfs.img ] || fail "no /LiveOS/squashfs.img in FEDAC-LIVE"
mount -t erofs -o loop,ro /live/LiveOS/squashfs.img /base || fail "cannot mount /LiveOS/squashfs.img"
say "ISOFS-LIVE $(head -n 1 /base/base-id | clean)"

piece=$(part FEDAC-PIECE) || fail "no partition with the label FEDAC-PIECE"
mount -t ext4 -o ro,noload "$piece" /piece || fail "cannot mount FEDAC-PIECE ($piece)"
html=/piece/piece.html
[ -f $html ] || fail "no piece.html in FEDAC-PIECE"
sum=$(sha256sum $html) || fail "cannot read piece.html"
say "ISOFS-PIECE sha256=${sum%% *} size=$(stat -c %s $html)"

# The text behind the first <title ...>; a page has it near its start.
title=$(head -c 65536 $html | awk 'BEGIN { RS = "<" }
	tolower($0) ~ /^title[ \t\n>]/ { sub(/^[^>]*>/, ""); print; exit }' |
	clean | sed 's/  */ /g')
say "ISOFS-TITLE $title"

json=null
[ -f /piece/piece.json ] && json=$(head -c 65536 /piece/piece.json | clean)
say "ISOFS-JSON $json"

# piece.json names the digest of its page: a stick that went bad is not OK.
case $json in
*bundleSha256*"${sum%% *}"*) ;;
*bundleSha256*) fail "piece.html is not what piece.json says: the stick is damaged, flash it again" ;;
esac

show '\n\033[1;35m  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\033[0m\n'
show '\n\033[1;37m    %s\033[0m\n\n' "$title"
show '    is the title of the piece in this image. The flavor tiny has no\n'
show '    browser: it shows that an image boots, and what its slot holds.\n'
show '\n\033[1;35m  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\033[0m\n\n'
say "ISOFS-OK"
rest
