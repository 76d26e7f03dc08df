#!/bin/sh
# Finishes the root file system $1, whose packages are installed and into which root/ was copied.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

inside useradd --system --create-home --shell /bin/sh --groups video,render,input,audio kiosk
: >"$root/etc/machine-id"
echo isofs >"$root/etc/hostname"
printf '127.0.0.1 localhost isofs\n::1 localhost\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
mkdir -p "$root/mnt/piece"
# What /usr/lib/isofs/piece chose is /piece/ of the server.
ln -s /run/isofs/piece "$root/usr/lib/isofs/www/piece"
# What /usr/lib/isofs/splash left is /splash/ of it.
ln -s /run/isofs/splash "$root/usr/lib/isofs/www/splash"

inside systemctl -q set-default graphical.target
inside systemctl -q enable isofs-piece.service isofs-splash.service isofs-kiosk.service isofs-shown.path getty@tty2.service
# The console of tty1 is the piece's; the session ends the splash; nothing is kept of a boot, and the
# stick is not looked for updates. Clock and network wait for who needs them: no network is set up.
inside systemctl -q mask getty@tty1.service plymouth-quit.service plymouth-quit-wait.service systemd-firstboot.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer systemd-networkd.service systemd-timesyncd.service systemd-pstore.service

inside update-initramfs -u -k all

# What a running system does not read. The licences stay.
find "$root/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/* "$root"/usr/share/man "$root"/usr/share/info \
	"$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache "$root"/usr/lib/python3*/__pycache__
