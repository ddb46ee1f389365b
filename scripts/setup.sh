#!/bin/sh
# Makes a fresh machine ready to build walb: system packages, npm packages, the C shim. Quick when all is there.
#   sh scripts/setup.sh               what the build needs
#   sh scripts/setup.sh --for-tests   also the tools the tests drive
set -eu
cd "$(dirname "$0")/.."

for_tests=no
case "${1-}" in
  "") ;;
  --for-tests) for_tests=yes ;;
  *) echo "usage: sh scripts/setup.sh [--for-tests]" >&2; exit 2 ;;
esac

say() { echo "setup: $*" >&2; }

# --- system packages -------------------------------------------------------------------------------------------------

missing=""
need() { missing="$missing $1"; }
has() { command -v "$1" >/dev/null 2>&1; }

# A static library is asked of the compiler, which knows where this system keeps them.
has_library() {
  found=$("${CC:-gcc}" -print-file-name="lib$1.a" 2>/dev/null || true)
  [ "$found" != "lib$1.a" ] && [ -n "$found" ] && [ -f "$found" ]
}
has_header() {
  for directory in /usr/include /usr/local/include /usr/include/*-linux-gnu; do
    [ -f "$directory/$1" ] && return 0
  done
  return 1
}
need_library() { has_library "$1" && has_header "$2" || need "$3"; }

has "${CC:-gcc}" || need gcc
has_header stdio.h || need libc6-dev
has_header linux/fs.h || need linux-libc-dev
need_library lz4 lz4.h liblz4-dev
need_library snappy snappy-c.h libsnappy-dev
need_library lzma lzma.h liblzma-dev
need_library zstd zstd.h libzstd-dev
need_library z zlib.h zlib1g-dev

if [ "$for_tests" = yes ]; then
  { has mkfs.ext4 || [ -x /sbin/mkfs.ext4 ]; } || need e2fsprogs
  has qemu-io || need qemu-utils
  has nbdinfo && has nbdfuse || need libnbd-bin
  has fusermount3 || need fuse3
  { has mkfs.xfs || [ -x /sbin/mkfs.xfs ]; } || need xfsprogs
  { has mkfs.btrfs || [ -x /sbin/mkfs.btrfs ]; } || need btrfs-progs
  [ -e /usr/lib/python3/dist-packages/nbd.py ] || python3 -c 'import nbd' 2>/dev/null || need python3-libnbd
  has nbdkit || need nbdkit
  has fio || need fio
  has readelf || need binutils
  { has lvcreate || [ -x /sbin/lvcreate ]; } || need lvm2
  { has thin_check || [ -x /usr/sbin/thin_check ]; } || need thin-provisioning-tools
  # Virtual machines with a kernel of their own.
  if [ "$(uname -m)" = x86_64 ] && [ "$(id -u)" = 0 ]; then
    has qemu-system-x86_64 || need qemu-system-x86
    has busybox || need busybox-static
    has cpio || need cpio
    has xz || need xz-utils
    { has modprobe || [ -x /sbin/modprobe ]; } || need kmod
    { has nbd-client || [ -x /usr/sbin/nbd-client ]; } || need nbd-client
    { has dmsetup || [ -x /sbin/dmsetup ]; } || need dmsetup
    has pgrep || need procps
  fi
fi

if [ -n "$missing" ]; then
  command="apt-get update && apt-get install -y --no-install-recommends$missing"
  if [ "$(id -u)" = 0 ]; then
    root=""
  elif has sudo && sudo -n true 2>/dev/null; then
    root="sudo -n"
  else
    root=none
  fi
  if [ "$root" = none ] || ! has apt-get; then
    say "these system packages are missing:$missing"
    if has apt-get; then
      say "this user may not install them; run as root: $command"
    else
      say "install them (the names are Debian's) with this system's package manager, then run this again"
    fi
    exit 1
  fi
  say "installing system packages:$missing"
  install_missing() {
    # shellcheck disable=SC2086 # word splitting is wanted
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >&2
  }
  # Package lists may be absent or older than the mirror: then once more with fresh ones.
  if ! install_missing; then
    say "once more with fresh package lists"
    $root apt-get update >&2
    install_missing || { say "could not install:$missing"; say "run as root: $command"; exit 1; }
  fi
fi

# --- npm packages ----------------------------------------------------------------------------------------------------

# npm writes node_modules/.package-lock.json at the end of an install.
stamp=node_modules/.package-lock.json
if [ ! -f "$stamp" ] || [ -n "$(find package-lock.json -newer "$stamp" 2>/dev/null)" ]; then
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
  touch "$stamp"
fi

# With --ignore-scripts (also from an .npmrc) bun is only a stub until its install script has run.
if ! node_modules/.bin/bun --version >/dev/null 2>&1; then
  say "finishing the install of bun"
  node node_modules/bun/install.js >&2
  node_modules/.bin/bun --version >/dev/null || { say "bun does not run on this machine"; exit 1; }
fi

# --- the C shim ------------------------------------------------------------------------------------------------------

sh ffi/build.sh
