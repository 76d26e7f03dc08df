#!/bin/sh
# Finishes the root file system $1, whose packages are installed and into which root/ was copied.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

sh "$(dirname "$0")/kiosk.sh" "$root"
rm -f "$root/etc/resolv.conf"
# The stick is not looked for updates. Clock and network wait for who needs them: no network is set up.
inside systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	systemd-networkd.service systemd-timesyncd.service

# Modules of what a machine that shows a piece has no use for. They are compressed already, so they
# weigh twice in the image. No network is set up, so its drivers go too; webcams (uvc) stay.
release=$(ls "$root/usr/lib/modules")
modules=$root/usr/lib/modules/$release/kernel
for dir in accel atm comedi crypto gnss iio infiniband isdn md mtd net nfc parport staging target vdpa vfio vhost w1; do
	rm -rf "$modules/drivers/$dir"
done
find "$modules/net" -mindepth 1 -maxdepth 1 ! -name rfkill -exec rm -rf {} +
find "$modules/fs" -mindepth 1 -maxdepth 1 ! \( -name 'mbcache*' -o -name 'binfmt_misc*' -o -name autofs -o -name configfs -o -name efivarfs -o -name erofs \
	-o -name exfat -o -name ext4 -o -name fat -o -name fuse -o -name isofs -o -name jbd2 -o -name nls -o -name ntfs3 -o -name overlayfs -o -name pstore \
	-o -name squashfs -o -name udf \) -exec rm -rf {} +
find "$modules/drivers/media" -mindepth 1 -maxdepth 1 ! \( -name common -o -name mc -o -name usb -o -name v4l2-core \) -exec rm -rf {} +
find "$modules/drivers/media/usb" -mindepth 1 -maxdepth 1 ! -name uvc -exec rm -rf {} +
# Of the host adapters those of virtual machines.
find "$modules/drivers/scsi" -mindepth 1 -maxdepth 1 ! \( -name 'sd_mod*' -o -name 'sr_mod*' -o -name 'sg.*' -o -name 'scsi_*' -o -name 'virtio_scsi*' \
	-o -name 'vmw_pvscsi*' -o -name 'hv_storvsc*' -o -name 'ufs*' -o -name 'raid_class*' \) -exec rm -rf {} +
rm -rf "$modules/arch/x86/kvm"
inside depmod "$release"

# Firmware: not that of cameras and of what computes; each file compressed by itself, which the kernel undoes.
firmware=$root/usr/lib/firmware
rm -rf "$firmware/amdnpu" "$firmware/intel/ipu" "$firmware/intel/vsc" "$firmware"/intel/irci_* "$firmware"/amdgpu/isp_*
find "$firmware" -type f ! -name '*.xz' ! -name '*.zst' -exec xz -f -9 -C crc32 {} +
for pass in links 'links to links'; do
	find "$firmware" -type l | while read -r link; do
		target=$(readlink "$link")
		if [ ! -e "$link" ] && [ -e "$(dirname "$link")/$target.xz" ]; then
			rm "$link"
			ln -s "$target.xz" "$link.xz"
		fi
	done
	echo "firmware: $pass are done"
done
[ -z "$(find "$firmware" -xtype l)" ] || { echo "firmware: links that lead nowhere: $(find "$firmware" -xtype l | head -n 3)" >&2; exit 1; }

inside update-initramfs -c -k "$release"

# What a running system does not read. The licences stay.
find "$root/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/* "$root"/usr/share/man "$root"/usr/share/info \
	"$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache "$root"/usr/lib/python3*/__pycache__
# Chromium's checks of Vulkan, icons that no window shows (the pointer is one of cursors/), the text that
# udev's database was made of, and GRUB's tools: it is outside of the root.
rm -rf "$root"/usr/lib/chromium/libVkLayer_khronos_validation.so "$root"/usr/share/icons/hicolor \
	"$root"/usr/share/icons/Adwaita/[0-9s]* "$root"/usr/share/mime/packages "$root"/usr/lib/udev/hwdb.d "$root"/usr/share/grub "$root"/usr/bin/grub-* "$root"/usr/sbin/grub-*
