/** @module The device under a real kernel: nbd-client, attach, ext4, fio, restarts, power cuts, writes replayed to each flush. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngine } from "../../src/device/user/engine.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { missing, run } from "../helpers/device-process.ts";
import { readLoggedIo } from "./logwrites.ts";
import { inMachine, prelude, whyNoMachine } from "./machine.ts";

const mib = 1024 * 1024;
const programs = missing("nbd-client", "fio", "mkfs.ext4", "e2fsck", "debugfs", "dmsetup");
const lacking = programs.length > 0 ? `there is no ${programs.join(", ")}` : whyNoMachine();
if (lacking !== undefined) console.log(`skipping tests in virtual machines: ${lacking}`);
/** Crash points of a replay that are tried: of the hundreds there are, or more by option. */
const replayPoints = Number(process.env.WALB_REPLAY_POINTS ?? 24);

describe.skipIf(lacking !== undefined)("in a virtual machine", () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-vm-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const disk = (name: string, sizeMib: number): string => {
    const path = join(directory, name);
    writeFileSync(path, "");
    truncateSync(path, sizeMib * mib);
    return path;
  };

  test("ext4 on a kernel client with four connections keeps what was synced through a power cut", async () => {
    const disks = [disk("data", 128), disk("log", 128)];
    const begin = (flags: string): string => `${prelude} start_device
      walb device create vol --data /dev/vda --log /dev/vdb --device-data d ${flags} >created 2>&1 || { cat created; exit 1; }
      nbd-client -unix d/nbd.sock -N vol -C 4 /dev/nbd0 >client 2>&1 || { cat client; exit 1; }`;
    const first = await inMachine(
      `${begin("--size 96M")}
      mkfs.ext4 -q -F /dev/nbd0; mount /dev/nbd0 /mnt
      fio --name=v --directory=/mnt --size=3m --eta=never --rw=randwrite --bs=4k --iodepth=8 --ioengine=libaio --direct=1 \\
        --verify=crc32c --verify_fatal=1 --do_verify=1 --output=fio.out || { cat fio.out; exit 1; }
      for i in 1 2 3 4 5 6; do head -c 500000 /dev/urandom >/mnt/f$i; done
      (cd /mnt; sha256sum f* v* >sums); sync /mnt/sums; sync; cat /mnt/sums
      (while :; do head -c 300000 /dev/urandom >/mnt/later; rm -f /mnt/later; done) & sleep 1
      echo CUT; sleep 0.3; echo b >/proc/sysrq-trigger; sleep 5`,
      disks,
    );
    if (!first.out.includes("CUT")) throw new Error(first.out);
    expect(first.code).toBe(125);
    const sums = first.out.split("\n").filter((line) => /^[0-9a-f]{64} {2}/.test(line));
    expect(sums).toHaveLength(7);
    const second = await inMachine(
      `${begin("--reuse-log")}
      mount /dev/nbd0 /mnt; cat /mnt/sums; cd /mnt; sha256sum -c sums; cd /run/w; umount /mnt
      e2fsck -fn /dev/nbd0; nbd-client -d /dev/nbd0; walb device show vol --device-data d
      kill $P; wait $P; e2fsck -fn /dev/vda; echo WHOLE`,
      disks,
    );
    if (!second.out.includes("WHOLE")) throw new Error(second.out);
    expect(second.code).toBe(0);
    for (const line of sums) expect(second.out).toContain(line);
  }, 600_000);

  test("an attached device waits for its daemon, killed or stopped, and ext4 on it never sees an error", async () => {
    const { code, out } = await inMachine(
      `${prelude} start_device
      walb device create vol --data /dev/vda --size 64M --log-size 32M --device-data d >/dev/null
      walb device attach vol --device-socket d/control.sock --request-timeout 3s >attached; read D <attached; echo "attached $D"
      cat /sys/block/nbd0/backend; mkfs.ext4 -q -F $D; mount $D /mnt
      (for i in 1 2 3 4 5 6 7 8; do head -c 400000 /dev/urandom >/mnt/f$i; sync /mnt/f$i; done; touch worked) & W=$!
      for signal in KILL TERM; do sleep 0.3; kill -$signal $P; wait $P || true; sleep 0.5; start_device; done
      wait $W; [ -e worked ]; (cd /mnt; sha256sum f* >../run/w/sums); umount /mnt; e2fsck -fn $D
      mount $D /mnt; walb device resize vol 96M --device-data d; resize2fs $D; df -k --output=size /mnt
      (cd /mnt; sha256sum -c ../run/w/sums); umount /mnt
      if dmesg | grep -E 'nbd0.*I/O error|EXT4-fs error|Buffer I/O error'; then exit 1; fi
      walb device detach vol; for i in $(seq 600); do pgrep -f 'attach vol' >/dev/null || break; sleep 0.1; done
      if pgrep -f 'attach vol' || [ -e /sys/block/nbd0/pid ]; then echo 'still attached'; exit 1; fi
      kill $P; wait $P; e2fsck -fn /dev/vda; echo WHOLE`,
      [disk("attached", 96)],
    );
    if (!out.includes("WHOLE")) throw new Error(out);
    expect(code).toBe(0);
    expect(out).toContain("attached /dev/nbd0");
    expect(out).toContain("walb:vol");
    expect(out).toContain("vol is 96.0M large, and /dev/nbd0 with it");
    // Grown under its mounted file system.
    expect(Number(/1K-blocks\s+(\d+)/.exec(out)?.[1])).toBeGreaterThan(80_000);
  }, 600_000);

  test(`replayed to ${replayPoints} of the flushes its stores saw, the volume is whole and has what was synced`, async () => {
    const [dataMib, logMib] = [48, 16];
    const stores = disk("stores", dataMib + logMib);
    const record = disk("record", 512);
    const { code, out } = await inMachine(
      `${prelude} modprobe dm-log-writes; udev="--noudevsync"
      dmsetup create both $udev --table "0 ${(dataMib + logMib) * 2048} log-writes /dev/vda /dev/vdb"; dmsetup mknodes
      dmsetup create data $udev --table "0 ${dataMib * 2048} linear /dev/mapper/both 0"
      dmsetup create log $udev --table "0 ${logMib * 2048} linear /dev/mapper/both ${dataMib * 2048}"; dmsetup mknodes
      start_device; walb device create vol --data /dev/mapper/data --log /dev/mapper/log --device-data d >/dev/null
      nbd-client -unix d/nbd.sock -N vol -C 4 /dev/nbd0 >client 2>&1 || { cat client; exit 1; }
      mkfs.ext4 -q -F -E nodiscard /dev/nbd0; mount /dev/nbd0 /mnt; sync; dmsetup message both 0 mark made
      for i in $(seq 14); do
        head -c $((20000 * i)) /dev/urandom >/mnt/f$i; sync /mnt/f$i /mnt; dmsetup message both 0 mark f$i
        [ $((i % 4)) != 0 ] || { rm /mnt/f$((i - 2)); fstrim /mnt; }
      done
      (cd /mnt; sha256sum f*); umount /mnt; nbd-client -d /dev/nbd0; kill $P; wait $P
      dmsetup remove $udev data; dmsetup remove $udev log; dmsetup remove $udev both; sync; echo RECORDED`,
      [stores, record],
    );
    if (!out.includes("RECORDED")) throw new Error(out);
    expect(code).toBe(0);
    const sums = new Map([...out.matchAll(/^([0-9a-f]{64}) {2}(\S+)/gm)].map((found) => [found[2]!, found[1]!]));
    expect(sums.size).toBe(11);
    const entries = readLoggedIo(readFileSync(record));
    const made = entries.findIndex(({ mark }) => mark === "made");
    const points = entries.flatMap(({ isFlush }, i) => (isFlush && i > made ? [i] : []));
    expect(points.length).toBeGreaterThan(28);
    const step = Math.max(1, points.length / replayPoints);
    const chosen = new Set(Array.from({ length: replayPoints }, (_, i) => points[Math.floor(i * step)] ?? -1));
    const image = Buffer.alloc((dataMib + logMib) * mib);
    const synced = new Set<string>();
    let checked = 0;
    for (const [i, { write, mark }] of entries.entries()) {
      if (write !== undefined) image.set(write.bytes, write.offsetBytes);
      if (mark !== undefined && sums.has(mark)) synced.add(mark);
      if (!chosen.has(i)) continue;
      await checkCrash(image, dataMib * mib, synced, sums, `flush at entry ${i}`);
      checked += 1;
    }
    expect(checked).toBe(Math.min(replayPoints, points.length));
  }, 600_000);

  /** Starts a device on the image as after a crash, and looks at its file system. */
  async function checkCrash(
    image: Buffer,
    dataBytes: number,
    synced: ReadonlySet<string>,
    sums: ReadonlyMap<string, string>,
    where: string,
  ): Promise<void> {
    const place = join(directory, "crash");
    mkdirSync(place);
    const [dataPath, logPath] = [join(place, "data"), join(place, "log")];
    writeFileSync(dataPath, image.subarray(0, dataBytes));
    writeFileSync(logPath, image.subarray(dataBytes));
    const platform = createPlatform({ memoryBudgetBytes: 64 * mib, threads: 2 });
    try {
      const engine = await openEngine(platform, { name: "vol", dataPath, logPath, overflow: "keep-writing" });
      await engine.close();
    } finally {
      await closePlatform(platform);
    }
    // Replays the journal of the file system, as mounting would; from 4 on something was wrong.
    const check = Bun.spawnSync(["e2fsck", "-fp", dataPath], { stdin: "ignore" });
    if (check.exitCode >= 4) throw new Error(`${where}: ${check.stdout}${check.stderr}`);
    for (const name of synced) {
      const copy = join(place, name);
      await run("debugfs", "-R", `dump /${name} ${copy}`, dataPath);
      const sum = new Bun.CryptoHasher("sha256").update(readFileSync(copy)).digest("hex");
      if (sum !== sums.get(name)) throw new Error(`${where}: ${name}, which was synced, has other content`);
    }
    rmSync(place, { recursive: true });
  }
});
