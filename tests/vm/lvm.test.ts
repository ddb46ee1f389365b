/** @module Images on real LVM, classic and thin, in a virtual machine. */
import { describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { missing } from "../helpers/device-process.ts";
import { inMachine, whyNoMachine } from "./machine.ts";

const root = resolve(import.meta.dir, "..", "..");
const programs = missing("lvcreate", "thin_check");
const lacking = programs.length > 0 ? `there is no ${programs.join(", ")}` : whyNoMachine();
if (lacking !== undefined) console.log(`skipping tests in virtual machines: ${lacking}`);

describe.skipIf(lacking !== undefined)("in a virtual machine, an archive with images on real LVM", () => {
  test("keeps, restores, applies, promotes and grows classic and thin volumes under the original's names", async () => {
    const bun = process.execPath;
    const scenario = `${root}/tests/vm/lvm-scenario.ts`;
    const script = `
      set -e; mkdir -p /etc/lvm
      printf "activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }\\n" >/etc/lvm/lvm.conf
      for m in loop dm-thin-pool dm-snapshot; do modprobe $m; done
      truncate -s 512M pv; losetup -b 512 --direct-io=on /dev/loop1 pv
      vgcreate -q vg /dev/loop1 >/dev/null; lvcreate -q -L 160M -T vg/tp >/dev/null
      ${bun} ${scenario} vg; ${bun} ${scenario} vg/tp`;
    const { code, out } = await inMachine(script, [], 3072);
    if (code !== 0) throw new Error(`exit status ${code}: ${out}`);
    expect(out.match(/^WHOLE$/gm)).toHaveLength(2);
  }, 600_000);
});
