/**
 * @module Scenarios of the original's suite on real LVM: daemons under the original's names, images in a volume group,
 * `sha1sum` of the device and of restored logical volumes, in a virtual machine.
 */
import { describe, expect, test } from "bun:test";
import { missing } from "../helpers/device-process.ts";
import { binary } from "../helpers/fleet.ts";
import { inMachine, prelude, whyNoMachine } from "./machine.ts";

// Each command takes seconds of the slow processor: the rest of the scenarios runs on files (tests/scenarios).
const isAll = process.env.WALB_SCENARIOS === "all";
const programs = missing("lvcreate", "thin_check", "sha1sum");
const lacking = programs.length > 0 ? `there is no ${programs.join(", ")}` : whyNoMachine();
if (lacking !== undefined) console.log(`skipping tests in virtual machines: ${lacking}`);

/** Daemons of the four roles on devices of ours; `wait_for WORDS WANTED` asks walbc until it says so. */
const site = `${prelude.replace("until_there /dev/vda", "")}
  mkdir -p /etc/lvm bin s0 p0 a0 a1
  printf "activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }\\n" >/etc/lvm/lvm.conf
  for m in loop dm-thin-pool dm-snapshot; do modprobe $m; done
  truncate -s 512M pv; losetup -b 512 --direct-io=on /dev/loop1 pv
  vgcreate -q vg /dev/loop1 >/dev/null; lvcreate -q -L 160M -T vg/tp >/dev/null
  for n in walbc walb-storage walb-proxy walb-archive wdevc; do ln -s ${binary} bin/$n; done
  start_device; export WALB_DEVICE_SOCKET=/run/w/d/control.sock
  walb device create vol --size 16M --log-size 16M --device-data d >/dev/null
  walb device attach vol --device-data d >attached; read D <attached
  bin/walb-archive -p 10200 -b /run/w/a0 -l a0.log -id a0 -vg vg -allow-exec 2>a0.err & A0=$!
  bin/walb-proxy -p 10100 -b /run/w/p0 -l p0.log -id p0 2>p0.err &
  bin/walb-storage -p 10000 -b /run/w/s0 -l s0.log -id s0 -archive 127.0.0.1:10200 -proxy 127.0.0.1:10100 2>s0.err &
  c() { bin/walbc -id ctl -a 127.0.0.1 -p "$@"; }
  wait_for() { wanted=$1; shift; for i in $(seq 200); do [ "$(c "$@" 2>&1)" = "$wanted" ] && return; sleep 0.2; done
    echo "walbc $* does not say $wanted: $(c "$@" 2>&1)"; cat */*.log; exit 1; }
  until_restorable() { for i in $(seq 200); do c 10200 get restorable vol | grep -q "^$1 " && return; sleep 0.2; done
    echo "gid $1 is not restorable"; cat */*.log; exit 1; }
  # restored NAME GID: the logical volume that is restored equals the device.
  restored() {
    sync; want=$(sha1sum <$D); until_restorable $2; c 10200 restore vol $2 >/dev/null
    until_there /dev/vg/wr_vol_$2; wait_for 0 10200 get num-action vol Restore
    got=$(sha1sum </dev/vg/wr_vol_$2); [ "$want" = "$got" ] || { echo "$1: $got is not $want"; exit 1; }
    c 10200 del-restored vol $2 >/dev/null; [ ! -e /dev/vg/wr_vol_$2 ]; echo "SAME $1"; }
  noise() { dd if=/dev/urandom of=$D bs=4096 count=$1 seek=$2 oflag=direct conv=notrunc status=none; }
  for p in 10200 10100 10000; do for i in $(seq 200); do c $p get host-type >/dev/null 2>&1 && break; sleep 0.2; done; done
  [ "$(cat /proc/$A0/comm)" = walb-archive ]
`;

const n1 = `
  c 10000 init-vol vol /dev/walb/vol >/dev/null; c 10200 init-vol vol >/dev/null
  c 10100 archive-info add vol a0 127.0.0.1:10200 >/dev/null; c 10100 start vol >/dev/null
  noise 300 11; c 10000 full-bkp vol >/dev/null; wait_for Target 10000 get state vol
  [ -e /dev/vg/wb_vol ]; restored n1 $(c 10000 snapshot vol)`;
const n2 = `
  noise 50 2000; G=$(c 10000 snapshot vol); restored n2 $G`;
const n3 = `
  c 10000 stop vol >/dev/null; wait_for Stopped 10000 get state vol; c 10000 reset-vol vol >/dev/null
  c 10000 start vol standby >/dev/null; noise 50 700; c 10000 stop vol >/dev/null; wait_for SyncReady 10000 get state vol
  c 10000 hash-bkp vol >/dev/null; wait_for Target 10000 get state vol; restored n3 $(c 10000 snapshot vol)`;
const apply = `
  G=$(c 10000 snapshot vol); until_restorable $G; noise 20 40; c 10200 apply vol $G >/dev/null
  wait_for 0 10200 get num-action vol Apply; c 10200 get restorable vol | head -1 | grep -q "^$G "
  restored apply $(c 10000 snapshot vol)`;

describe.skipIf(lacking !== undefined)("in a virtual machine, under the original's names, on real LVM", () => {
  test("what n1, n2 and n3 restore to a logical volume has the sha1sum of the device", async () => {
    const more = isAll ? [apply] : [];
    const script = `${site} ${[n1, n2, n3, ...more].join("\n")}\n echo WHOLE`;
    const { code, out } = await inMachine(script, [], 3072);
    if (code !== 0) throw new Error(`exit status ${code}: ${out}`);
    expect(out.match(/^SAME n\d$/gm)).toEqual(["SAME n1", "SAME n2", "SAME n3"]);
    expect(out).toContain("WHOLE");
  }, 600_000);
});
