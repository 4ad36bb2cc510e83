#!/bin/sh
# Makes an installed tree the root of a distribution guest. Argument: the tree.
set -eu
tree=$1

# Guests are emulated: what no test needs is not started. There are no terminals, no devices to wait for and no network
# but loopback.
for unit in \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer podman-auto-update.timer \
    systemd-tmpfiles-clean.timer getty.target serial-getty@ttyS0.service console-getty.service \
    netavark-dhcp-proxy.socket netavark-dhcp-proxy.service podman-restart.service remote-fs.target \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-modules-load.service kmod-static-nodes.service systemd-pstore.service systemd-random-seed.service \
    systemd-networkd.service systemd-hostnamed.socket systemd-creds.socket systemd-sysext.socket \
    systemd-pcrlock.socket systemd-pcrextend.socket systemd-journal-catalog-update.service \
    systemd-journal-flush.service systemd-update-done.service systemd-firstboot.service ldconfig.service
do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
mkdir -p "$tree/etc/systemd/user"
for unit in gpg-agent.socket gpg-agent-browser.socket gpg-agent-extra.socket gpg-agent-ssh.socket dirmngr.socket \
    keyboxd.socket ssh-agent.socket
do
    ln -sf /dev/null "$tree/etc/systemd/user/$unit"
done
ln -sf /usr/lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"

# Not a first boot: nothing is asked, nothing is generated.
echo 7ee11e00000040008000000000000001 >"$tree/etc/machine-id"
touch "$tree/etc/.updated" "$tree/var/.updated"
echo treeline-guest >"$tree/etc/hostname"
printf '127.0.0.1 localhost treeline-guest\n::1 localhost\n' >"$tree/etc/hosts"

# A developer whose user manager runs without a login, and a hundred of whose seconds are not spent on keys by RSA.
chroot "$tree" groupadd --system treeline
chroot "$tree" useradd --create-home --shell /bin/bash --groups treeline dev
mkdir -p "$tree/var/lib/systemd/linger"
touch "$tree/var/lib/systemd/linger/dev"
rm -f "$tree"/etc/ssh/ssh_host_rsa_key* "$tree"/etc/ssh/ssh_host_ecdsa_key*
echo 'HostKey /etc/ssh/ssh_host_ed25519_key' >"$tree/etc/ssh/sshd_config.d/guest.conf"

# What containers run in: no registry is asked for anything.
root=$tree/var/lib/treeline-guest/rootfs
for directory in bin dev etc marks proc run srv sys tmp; do
    mkdir -p "$root/$directory"
done
cp "$tree/usr/bin/busybox" "$root/bin/busybox"
for program in cat echo id sh; do
    ln -sf busybox "$root/bin/$program"
done
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$root" -cf "$tree/var/lib/treeline-guest/image.tar" .

# Documentation is half of the tree's files.
rm -rf "$tree/usr/share/doc" "$tree/usr/share/man" "$tree/usr/share/locale" "$tree/usr/share/info"
