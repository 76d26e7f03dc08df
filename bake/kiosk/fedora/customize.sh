#!/bin/sh
# Finishes the root file system $1 of a Fedora, whose packages are installed and into which root/ was copied.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

inside useradd --system --create-home --shell /bin/sh --groups video,render,input,audio kiosk
: >"$root/etc/machine-id"
echo isofs >"$root/etc/hostname"
printf '127.0.0.1 localhost isofs\n::1 localhost\n' >"$root/etc/hosts"
mkdir -p "$root/mnt/piece"
# What /usr/lib/isofs/piece chose is /piece/ of the server.
ln -sfn /run/isofs/piece "$root/usr/lib/isofs/www/piece"
# Where Debian has it; the browser finds its own folder by its real name.
if [ ! -e "$root/usr/lib/chromium/chromium" ]; then
	mkdir -p "$root/usr/lib/chromium"
	ln -s ../../lib64/chromium-browser/chromium-browser "$root/usr/lib/chromium/chromium"
fi

inside systemctl -q set-default graphical.target
inside systemctl -q enable isofs-piece.service isofs-kiosk.service isofs-shown.path isofs-sound.service getty@tty2.service
# The console of tty1 is the piece's: no desktop, no questions at a first start, no installer. Nothing is
# kept of a boot, nobody looks for updates, and no network is set up.
inside systemctl -q mask getty@tty1.service plymouth-quit.service plymouth-quit-wait.service systemd-firstboot.service \
	gdm.service display-manager.service livesys.service livesys-late.service initial-setup.service \
	dnf-makecache.timer dnf5-makecache.timer packagekit.service fstrim.timer systemd-pstore.service \
	NetworkManager.service NetworkManager-wait-online.service ModemManager.service avahi-daemon.service avahi-daemon.socket \
	cups.service cups.socket sshd.service firewalld.service abrtd.service
rm -rf "$root"/var/log/* "$root"/var/cache/dnf/* "$root"/var/cache/libdnf5/*
