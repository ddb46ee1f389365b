#!/bin/bash
# run-in-vm.sh --check        Makes what is below ready; exit status 77 and the reason on stdout when a VM cannot be had here.
# run-in-vm.sh COMMANDS       Runs bash COMMANDS as root in a throw-away virtual machine with a Debian kernel.
#
# Nothing but Debian packages, and no disk image: the root of the machine is this one's, read-only over 9p, below an
# overlay in memory; its kernel is unpacked, not installed. Without KVM: the processor is about 25 times slower.
# Standard output is the commands' (both streams), the exit status is theirs; 125 when the machine died before it told.
# /run/w in the machine is empty and in memory, and the working directory. Environment:
#   WALB_VM_DIR      where kernels are kept                  /var/tmp/walb-vm
#   WALB_VM_KERNEL   package of the kernel                   linux-image-6.12-amd64, else linux-image-amd64
#   VM_DISKS         raw files, which become /dev/vda, /dev/vdb, …
#   VM_MEMORY_MIB    1536
#   VM_TIMEOUT_S     300
set -euo pipefail
kept=${WALB_VM_DIR:-/var/tmp/walb-vm}

cannot() { echo "$*"; exit 77; }
[ "$(uname -m)" = x86_64 ] || cannot "virtual machines are for x86_64 only"
[ "$(id -u)" = 0 ] || cannot "the virtual machine shares the whole file system of this one: it needs root"
for program in qemu-system-x86_64 busybox cpio xz modprobe depmod dpkg apt-get; do
  command -v "$program" >/dev/null || PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || cannot "there is no $program"
done
export PATH="$PATH:/usr/sbin:/sbin"

if [ -z "${WALB_VM_KERNEL-}" ]; then
  for WALB_VM_KERNEL in linux-image-6.12-amd64 linux-image-amd64; do
    [ -e "$kept/$WALB_VM_KERNEL/ready" ] && break
    apt-cache show "$WALB_VM_KERNEL" >/dev/null 2>&1 && break
  done
fi
place=$kept/$WALB_VM_KERNEL
mkdir -p "$place"
cd "$place"

# One at a time, as several tests may begin with this.
exec 9>lock
flock 9
if [ ! -e ready ]; then
  kernel=$(apt-cache depends "$WALB_VM_KERNEL" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
  [ -n "$kernel" ] || cannot "apt knows no kernel $WALB_VM_KERNEL"
  rm -rf root init
  apt-get download -qq "$kernel" >/dev/null 2>&1 || cannot "the package $kernel cannot be downloaded"
  dpkg -x "$kernel"_*.deb root
  rm -f "$kernel"_*.deb
  version=$(ls root/lib/modules)
  depmod -b root "$version"
  echo "$version" >version
  mkdir -p init/bin init/m init/proc init/sys init/dev init/h init/t init/n
  cp "$(command -v busybox)" init/bin/busybox
  number=100
  for module in virtio_pci 9pnet_virtio 9p overlay; do
    for file in $(modprobe -d "$PWD/root" -S "$version" --show-depends "$module" | awk '/^insmod/ {print $2}'); do
      base=$(basename "${file%.xz}")
      compgen -G "init/m/*-$base" >/dev/null && continue
      number=$((number + 1))
      case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"init/m/$number-$base"
    done
  done
  cat >init/init <<'END'
#!/bin/busybox sh
b() { /bin/busybox "$@"; }
b mount -t proc p /proc; b mount -t sysfs s /sys; b mount -t devtmpfs d /dev; b echo 1 >/proc/sys/kernel/printk
for m in /m/*.ko; do b insmod $m; done
for a in $(b cat /proc/cmdline); do case $a in vm_place=*) place=${a#vm_place=} ;; esac; done
b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /h
b mount -t tmpfs -o size=80% t /t; b mkdir /t/u /t/w; b mount -t overlay -o lowerdir=/h,upperdir=/t/u,workdir=/t/w o /n
for d in proc sys dev; do b mount --move /$d /n/$d; done; b mkdir -p /n/dev/pts /n/dev/shm /n/usr/lib/modules
b mount -t tmpfs t /n/run; b mkdir -p /n/run/lock /n/run/c /n/run/w; b mount -t tmpfs t /n/mnt
b mount -t devpts d /n/dev/pts; b mount -t tmpfs t /n/dev/shm; b mount --bind "/h$place/root/lib/modules" /n/usr/lib/modules
b mount -t 9p -o ro,trans=virtio,version=9p2000.L commands /n/run/c; b ifconfig lo 127.0.0.1; b cp /bin/busybox /n/run/busybox
b cat >/n/run/begin.sh <<'BEGIN'
cd /run/w; export HOME=/root TMPDIR=/run/w PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo; echo VM-BEGIN
bash /run/c/commands </dev/null 2>&1; status=$?
echo; echo VM-STATUS=$status
/run/busybox poweroff -f
BEGIN
exec /bin/busybox switch_root /n /bin/bash /run/begin.sh
END
  chmod +x init/init
  (cd init && find . | cpio -o -H newc --quiet | gzip -1) >initrd
  rm -rf init
  touch ready
fi
flock -u 9
[ "${1-}" = --check ] && exit 0

commands=$(mktemp -d)
trap 'rm -rf "$commands"' EXIT
printf '%s\n' "$*" >"$commands/commands"
chmod 755 "$commands"
disks=()
number=0
for file in ${VM_DISKS-}; do
  disks+=(-drive "file=$file,if=none,id=d$number,format=raw,cache=writeback" -device "virtio-blk-pci,drive=d$number")
  number=$((number + 1))
done
timeout "${VM_TIMEOUT_S:-300}" qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=512 -cpu max -smp 2 \
  -m "${VM_MEMORY_MIB:-1536}" -nodefaults -nographic -no-reboot -serial stdio \
  -kernel root/boot/vmlinuz-"$(cat version)" -initrd initrd \
  -append "console=ttyS0 quiet panic=-1 mitigations=off vm_place=$place" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$commands,mount_tag=commands,security_model=none,readonly=on" ${disks[@]+"${disks[@]}"} </dev/null |
  tr -d '\r' |
  awk '/^VM-STATUS=/ {status = substr($0, 11); on = 0; next} on {print; fflush()} /^VM-BEGIN/ {on = 1} END {exit status == "" ? 125 : status}'
