/** @module The device under a kernel: nbd-client with four connections, ext4, fio, a power cut. Needs a VM runner. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..", "..");
const runner = join(root, "..", "shared", "vm", "run-in-vm");
const lacking = [runner].filter((path) => !existsSync(path));
for (const program of ["nbd-client", "fio", "mkfs.ext4"]) {
  if (Bun.which(program, { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` }) === null) lacking.push(program);
}
if (lacking.length > 0) console.log(`skipping: there is no ${lacking.join(", ")}`);

/** What every run begins with: the daemon, its volume on two disks, and /dev/nbd0 with four connections. */
const prelude = (flags: string): string => `
  set -e; cd /tmp; modprobe nbd; modprobe virtio_blk; modprobe ext4; for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vdb ] || sleep 0.2; done
  walb() { ${process.execPath} ${root}/src/main.ts "$@"; }
  ${process.execPath} ${root}/src/main.ts device --data /tmp/d >/tmp/out 2>&1 & P=$!
  for i in $(seq 100); do [ -S /tmp/d/control.sock ] && break; sleep 0.1; done
  walb device create vol --data /dev/vda --log /dev/vdb --device-data /tmp/d ${flags} >/tmp/created 2>&1 || { cat /tmp/created; exit 1; }
  nbd-client -unix /tmp/d/nbd.sock -N vol -C 4 /dev/nbd0 >/tmp/client 2>&1 || { cat /tmp/client; exit 1; }
`;

describe.skipIf(lacking.length > 0)("in a virtual machine", () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-vm-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  const disks = ["data", "log"].map((name) => join(directory, name));

  const inVm = async (script: string): Promise<{ code: number; out: string }> => {
    const drives = disks.map(
      (path, i) => `-drive file=${path},if=none,id=d${i},format=raw,cache=writeback -device virtio-blk-pci,drive=d${i}`,
    );
    const child = Bun.spawn([runner, script], {
      env: { ...process.env, QEMUARGS: drives.join(" "), VMTIMEOUT: "110" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const out = await new Response(child.stdout).text();
    return { code: await child.exited, out };
  };

  test("ext4 on a kernel client with four connections keeps what was synced through a power cut", async () => {
    for (const path of disks) {
      writeFileSync(path, "");
      truncateSync(path, 128 << 20);
    }
    const first = await inVm(`${prelude("--size 96M")}
      mkfs.ext4 -q -F /dev/nbd0; mount /dev/nbd0 /mnt
      fio --name=v --directory=/mnt --size=3m --eta=never --rw=randwrite --bs=4k --iodepth=8 --ioengine=libaio --direct=1 \\
        --verify=crc32c --verify_fatal=1 --do_verify=1 --output=/tmp/fio.out || { cat /tmp/fio.out; exit 1; }
      for i in 1 2 3 4 5 6; do head -c 500000 /dev/urandom >/mnt/f$i; done
      (cd /mnt; sha256sum f* v* >sums); sync /mnt/sums; sync; cat /mnt/sums; cat /sys/block/nbd0/size
      (while :; do head -c 300000 /dev/urandom >/mnt/later; rm -f /mnt/later; done) & sleep 1
      echo CUT; sleep 0.3; echo b >/proc/sysrq-trigger; sleep 5`);
    expect(first.out).toContain("CUT");
    expect(first.code).toBe(125);
    const sums = first.out.split("\n").filter((line) => /^[0-9a-f]{64} {2}/.test(line));
    expect(sums).toHaveLength(7);
    const second = await inVm(`${prelude("--reuse-log")}
      mount /dev/nbd0 /mnt; cat /mnt/sums; cd /mnt; sha256sum -c sums; cd /; umount /mnt
      e2fsck -fn /dev/nbd0; nbd-client -d /dev/nbd0; walb device show vol --device-data /tmp/d
      kill $P; wait $P; e2fsck -fn /dev/vda; echo WHOLE`);
    if (!second.out.includes("WHOLE")) throw new Error(second.out);
    expect(second.code).toBe(0);
    for (const line of sums) expect(second.out).toContain(line);
  }, 240_000);
});
