#!/bin/sh
# What the session needs in the root file system $1, whatever distribution it is of: the user, and which
# units run. Called by the customize.sh of each, when packages and root/ are in it.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

inside useradd --system --create-home --shell /bin/sh --groups video,render,input,audio kiosk
: >"$root/etc/machine-id"
echo isofs >"$root/etc/hostname"
printf '127.0.0.1 localhost isofs\n::1 localhost\n' >"$root/etc/hosts"
mkdir -p "$root/mnt/piece"
# What /usr/lib/isofs/piece chose is /piece/ of the server, and what splash left is /splash/ of it.
ln -sfn /run/isofs/piece "$root/usr/lib/isofs/www/piece"
ln -sfn /run/isofs/splash "$root/usr/lib/isofs/www/splash"

inside systemctl -q set-default graphical.target
inside systemctl -q enable isofs-piece.service isofs-splash.service isofs-kiosk.service isofs-shown.path isofs-sound.service getty@tty2.service
# The console of tty1 is the piece's; the session ends the splash; nothing is asked at a first start, and
# nothing is kept of a boot.
inside systemctl -q mask getty@tty1.service plymouth-quit.service plymouth-quit-wait.service systemd-firstboot.service \
	fstrim.timer systemd-pstore.service
