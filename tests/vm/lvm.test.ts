/** @module Images on real LVM, classic and thin, in a virtual machine. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..", "..");
const runner = join(root, "..", "shared", "vm", "run-in-vm");
const systemPath = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
const lacking = [
  ...[runner].filter((path) => !existsSync(path)),
  ...["lvcreate", "thin_check"].filter((program) => Bun.which(program, { PATH: systemPath }) === null),
];
if (lacking.length > 0) console.log(`skipping: there is no ${lacking.join(", ")}`);

describe.skipIf(lacking.length > 0)("in a virtual machine, an archive with images on real LVM", () => {
  test("keeps, restores, applies, promotes and grows classic and thin volumes under the original's names", async () => {
    const bun = process.execPath;
    const scenario = `${root}/tests/vm/lvm-scenario.ts`;
    const script = `
      set -e; cd /tmp; mkdir -p /etc/lvm
      printf "activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }\\n" >/etc/lvm/lvm.conf
      for m in loop dm-thin-pool dm-snapshot; do modprobe $m; done
      truncate -s 512M pv; losetup -b 512 --direct-io=on /dev/loop1 pv
      vgcreate -q vg /dev/loop1 >/dev/null; lvcreate -q -L 160M -T vg/tp >/dev/null
      ${bun} ${scenario} vg; ${bun} ${scenario} vg/tp`;
    const env = { ...process.env, VMTIMEOUT: "500", MEM: "3072" };
    const child = Bun.spawn([runner, script], { env, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const out = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error(out);
    expect(out.match(/^WHOLE$/gm)).toHaveLength(2);
  }, 520_000);
});
