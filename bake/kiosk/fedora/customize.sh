#!/bin/sh
# Finishes the root file system $1 of a Fedora, whose packages are installed and into which root/ was copied.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

sh "$(dirname "$0")/kiosk.sh" "$root"
# Where Debian has it; the browser finds its own folder by its real name.
if [ ! -e "$root/usr/lib/chromium/chromium" ]; then
	mkdir -p "$root/usr/lib/chromium"
	ln -s ../../lib64/chromium-browser/chromium-browser "$root/usr/lib/chromium/chromium"
fi

# No desktop and no installer. Nobody looks for updates, and no network is set up.
inside systemctl -q mask gdm.service display-manager.service livesys.service livesys-late.service initial-setup.service \
	dnf-makecache.timer dnf5-makecache.timer packagekit.service \
	NetworkManager.service NetworkManager-wait-online.service ModemManager.service avahi-daemon.service avahi-daemon.socket \
	cups.service cups.socket sshd.service firewalld.service abrtd.service
rm -rf "$root"/var/log/* "$root"/var/cache/dnf/* "$root"/var/cache/libdnf5/*
