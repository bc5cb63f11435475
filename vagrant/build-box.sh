#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds vagrant/netlink-labs.box from Debian's packages alone: Debian 13 with all that
# vagrant/provision.sh would install, the Go and the libraries of this checkout, and
# what they compile to. A class that uses it needs no network. For libvirt, amd64.
#
# No loop device and no mount is used, and no rights of root's but those that
# mmdebstrap(1) wants, which an ordinary user with a range in /etc/subuid has.
#
#   MIRROR     where Debian is fetched (http://deb.debian.org/debian)
#   OUT        the box (vagrant/netlink-labs.box)
#   TMPDIR     has room for 5 GB while it is built
set -euo pipefail

cd "$(dirname "$0")/.."
top=$PWD
mirror=${MIRROR:-http://deb.debian.org/debian}
security=${MIRROR_SECURITY:-http://deb.debian.org/debian-security}
out=${OUT:-vagrant/netlink-labs.box}
folder=/home/vagrant/netlink-labs
size=16G # of the disk; it takes what is used of it

say() { echo "build-box: $* ($SECONDS s)"; }

fail() {
	echo "build-box: $*" >&2
	exit 2
}

[ "$(dpkg --print-architecture)" = amd64 ] || fail "it builds boxes on amd64, for amd64. Elsewhere take the public box"
for tool in mmdebstrap sfdisk mke2fs grub-mkimage qemu-img rsync go; do
	command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
		fail "$tool is not installed: make vagrant-test installs all that is wanted, or apt-get install mmdebstrap fdisk e2fsprogs grub-pc-bin grub-common qemu-utils rsync"
done
PATH=$PATH:/usr/sbin:/sbin
key=$(cat /usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub \
	/opt/vagrant/embedded/gems/gems/vagrant-*/keys/vagrant.pub 2>/dev/null || true)
[ -n "$key" ] || fail "the public key that boxes have comes with Vagrant, which is not installed"
goroot=$(GOTOOLCHAIN=${GOTOOLCHAIN:-auto} go env GOROOT)
modules=$(go env GOMODCACHE)

# As root, or in mmdebstrap's user namespace: the files of the box are root's.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/netlink-labs-box-XXXXXX")
chmod 777 "$tmp"
trap 'as_root rm -rf "$tmp/root" "$tmp/disk"; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# What the running system is made of. What provision.sh wants is added to it.
packages=(
	linux-image-cloud-amd64 linux-headers-cloud-amd64 initramfs-tools zstd
	systemd-sysv systemd-resolved systemd-timesyncd udev dbus libpam-systemd kmod
	openssh-server sudo rsync procps less nano vim-tiny git bash-completion ca-certificates
)
while read -r p; do packages+=("$p"); done < <(vagrant/provision.sh packages)

# The hooks run in turn, with the root as their argument.
cat >"$tmp/settle" <<END
#!/bin/bash
set -euo pipefail
root=\$1
in_root() { chroot "\$root" "\$@"; }

echo netlink-labs >"\$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 netlink-labs\n::1 localhost\n' >"\$root/etc/hosts"
echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"\$root/etc/fstab"
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' >"\$root/etc/systemd/network/dhcp.network"
in_root systemctl -q enable systemd-networkd systemd-resolved ssh
ln -sf /run/systemd/resolve/stub-resolv.conf "\$root/etc/resolv.conf"
cat >"\$root/etc/apt/sources.list" <<LIST
deb $mirror trixie main
deb $mirror trixie-updates main
deb $security trixie-security main
LIST

in_root useradd -m -s /bin/bash vagrant
echo vagrant:vagrant | in_root chpasswd
install -d -m 700 "\$root/home/vagrant/.ssh"
cat >"\$root/home/vagrant/.ssh/authorized_keys" <<'KEY'
$key
KEY
chmod 600 "\$root/home/vagrant/.ssh/authorized_keys"
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"\$root/etc/sudoers.d/vagrant"
chmod 440 "\$root/etc/sudoers.d/vagrant"
printf 'UseDNS no\nHostKey /etc/ssh/ssh_host_ed25519_key\n' >"\$root/etc/ssh/sshd_config.d/vagrant.conf"

# Each machine makes its own key and identity, when it first starts.
rm -f "\$root"/etc/ssh/ssh_host_*
: >"\$root/etc/machine-id"
mkdir -p "\$root/etc/systemd/system/ssh.service.d"
cat >"\$root/etc/systemd/system/ssh.service.d/key.conf" <<'UNIT'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c '[ -s /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
UNIT
# What the disk takes, and no more: a quarter of the time, here and at each start. It
# was put off (INITRD=No): the kernel's package would make it twice.
echo 'MODULES=list' >"\$root/etc/initramfs-tools/conf.d/box.conf"
printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod nvme ahci ata_piix ext4 >>"\$root/etc/initramfs-tools/modules"
release=\$(ls "\$root/lib/modules")
in_root update-initramfs -c -k "\$release" 2>&1 | grep -v "identify type of root file system" || true
[ -s "\$root/boot/initrd.img-\$release" ]
ln -sf "boot/initrd.img-\$release" "\$root/initrd.img" # GRUB's; the kernel's package keeps it from now on

# Nothing that wakes up by itself while a check runs.
in_root systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer man-db.timer dpkg-db-backup.timer
END
cat >"$tmp/labs" <<END
#!/bin/bash
# The Go and the libraries of this checkout, then provisioning itself.
set -euo pipefail
root=\$1
mkdir -p "\$root/usr/local/go" "\$root$folder" "\$root/home/vagrant/go/pkg/mod"
rsync -a --exclude=/test/ --exclude=/api/ --exclude=/doc/ --exclude=testdata/ --exclude=/pkg/obj/ '$goroot/' "\$root/usr/local/go/"
rsync -a --exclude=/.git/ --exclude=/work/ --exclude=/bin/ --exclude='/vagrant/*.box' --exclude=/.vagrant/ '$top/' "\$root$folder/"
rsync -a '$tmp/mod/' "\$root/home/vagrant/go/pkg/mod/"
chroot "\$root" chown -R vagrant: /home/vagrant
chroot "\$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin RELEASE="\$(ls "\$root/lib/modules")" GOPROXY=off bash $folder/vagrant/provision.sh
# The workbook is synced when a machine is made. bin/ stays: it need not be built anew.
find "\$root$folder" -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {} +
rm -f "\$root/etc/netlink-labs/place" # the machine is not one for the labs yet
END
chmod +x "$tmp/settle" "$tmp/labs"

say "fetching the libraries"
mkdir "$tmp/mod"
GOMODCACHE=$tmp/mod GOPROXY="file://$modules/cache/download,$(go env GOPROXY)" GONOSUMDB='*' GOFLAGS='-mod=readonly -modcacherw' GOWORK=off CGO_ENABLED=0 \
	go list -deps -test ./... >/dev/null

say "unpacking and setting up Debian 13"
include=$(IFS=,; echo "${packages[*]}")
INITRD=No mmdebstrap --quiet --variant=minbase --include="$include" --skip=output/dev \
	--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/locale/* \
	--customize-hook="$tmp/settle" --customize-hook="$tmp/labs" \
	trixie "$tmp/root" "deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main"

say "making the disk"
# 1 MiB for the partition table and GRUB, then one file system. Features that GRUB does
# not read are left out.
as_root truncate -s "$size" "$tmp/disk"
as_root mke2fs -q -t ext4 -L root -d "$tmp/root" -E offset=1048576,lazy_itable_init=1 \
	-O ^metadata_csum_seed,^orphan_file "$tmp/disk" "$(( ${size%G} * 1024 * 1024 - 1024 ))k"
as_root chmod 666 "$tmp/disk"
echo 'start=2048, type=83, bootable' | sfdisk -q "$tmp/disk"
cat >"$tmp/grub.cfg" <<'END'
set root=(hd0,msdos1)
linux /vmlinuz root=LABEL=root ro quiet console=tty0 console=ttyS0 net.ifnames=0
initrd /initrd.img
boot
END
grub-mkimage -O i386-pc -o "$tmp/core.img" -p /boot/grub -c "$tmp/grub.cfg" biosdisk part_msdos ext2 linux
dd if=/usr/lib/grub/i386-pc/boot.img of="$tmp/disk" bs=440 count=1 conv=notrunc status=none
dd if="$tmp/core.img" of="$tmp/disk" bs=512 seek=1 conv=notrunc status=none

say "packing the box"
mkdir "$tmp/box"
qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd -W -m 8 "$tmp/disk" "$tmp/box/box.img"
echo "{\"provider\": \"libvirt\", \"format\": \"qcow2\", \"virtual_size\": ${size%G}, \"architecture\": \"amd64\"}" >"$tmp/box/metadata.json"
echo 'Vagrant.configure("2") { |config| }' >"$tmp/box/Vagrantfile"
tar -C "$tmp/box" -cf "$tmp/box.tar" metadata.json Vagrantfile box.img
mv "$tmp/box.tar" "$out"
say "$out, $(( $(stat -c %s "$out") >> 20 )) MB"
