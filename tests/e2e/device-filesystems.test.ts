/** @module File systems on a device, through the kernel: nbdfuse makes the volume a file, a loop device a disk. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DeviceProcess, missing, run } from "../helpers/device-process.ts";

const lacking = missing("nbdfuse", "losetup", "mount", "blkid");
if (!existsSync("/dev/fuse")) lacking.push("/dev/fuse");
if (!existsSync("/dev/loop-control")) lacking.push("/dev/loop-control");
if (process.getuid?.() !== 0) lacking.push("root");
if (lacking.length > 0) console.log(`skipping: there is no ${lacking.join(", ")}`);

interface Kind {
  readonly name: string;
  readonly programs: readonly string[];
  make(disk: string): string[];
  check(disk: string): string[];
  /** Of what is mounted. */
  scrub?(path: string): string[];
}

const kinds: readonly Kind[] = [
  {
    name: "ext4",
    programs: ["mkfs.ext4", "e2fsck"],
    make: (disk) => ["mkfs.ext4", "-q", disk],
    check: (disk) => ["e2fsck", "-fn", disk],
  },
  {
    name: "xfs",
    programs: ["mkfs.xfs", "xfs_repair"],
    make: (disk) => ["mkfs.xfs", "-q", disk],
    check: (disk) => ["xfs_repair", "-n", disk],
  },
  {
    name: "btrfs",
    programs: ["mkfs.btrfs", "btrfs"],
    make: (disk) => ["mkfs.btrfs", "-q", disk],
    check: (disk) => ["btrfs", "check", disk],
    scrub: (path) => ["btrfs", "scrub", "start", "-B", path],
  },
];

describe("a file system on a device", () => {
  let device: DeviceProcess;
  let fuse: Bun.Subprocess | undefined;
  let disk: string | undefined;
  let file: string;
  let mounted: string;

  beforeEach(() => {
    device = new DeviceProcess();
    file = join(device.directory, "volume");
    mounted = join(device.directory, "mounted");
    mkdirSync(mounted);
  });
  afterEach(async () => {
    Bun.spawnSync(["umount", "-l", mounted], { stderr: "ignore" });
    await detach();
    await device.close();
  });

  const attach = async (): Promise<void> => {
    await Bun.write(file, "");
    fuse = Bun.spawn(["nbdfuse", file, device.uri], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    for (let i = 0; i < 250 && statSync(file).size === 0; i++) await Bun.sleep(20);
    disk = (await run("losetup", "-f", "--show", "--direct-io=on", file)).trim();
  };
  const detach = async (): Promise<void> => {
    if (disk !== undefined) Bun.spawnSync(["losetup", "-d", disk]);
    disk = undefined;
    if (fuse === undefined) return;
    for (let i = 0; i < 50 && !Bun.spawnSync(["fusermount3", "-u", file], { stderr: "ignore" }).success; i++) {
      await Bun.sleep(20);
    }
    fuse.kill("SIGTERM");
    await fuse.exited;
    fuse = undefined;
  };

  for (const kind of kinds) {
    const absent = [...lacking, ...missing(...kind.programs)];
    if (absent.length > lacking.length) console.log(`skipping ${kind.name}: there is no ${absent.join(", ")}`);
    test.skipIf(absent.length > 0)(
      `${kind.name} is made, filled, trimmed, checked, and is whole again after the daemon was killed and redid its log`,
      async () => {
        await device.start();
        await device.create(400 << 20, 64 << 20);
        await attach();
        await run(...kind.make(disk!));
        await run("mount", disk!, mounted);
        const script = `set -e; cd "${mounted}"; for i in 1 2 3 4 5 6 7 8; do head -c 3000000 /dev/urandom >f$i; done
          mkdir d; cp f1 f2 f3 d/; rm f4 f5; mv f6 d/f6; ln f7 hard; ln -s f8 soft; truncate -s 1000 f1; sync
          fstrim . || true; dd if=/dev/zero of=z bs=64k count=50 conv=fsync status=none
          find . -type f | sort | xargs sha256sum >/${device.directory}/sums; sync`;
        await run("sh", "-c", script);
        if (kind.scrub !== undefined) await run(...kind.scrub(mounted));
        await run("umount", mounted);
        await run(...kind.check(disk!));
        await detach();
        await device.end("SIGKILL");
        await device.start();
        await attach();
        await run(...kind.check(disk!));
        await run("mount", "-o", "ro", disk!, mounted);
        const out = await run("sh", "-c", `cd "${mounted}" && sha256sum --quiet -c ${device.directory}/sums && ls`);
        expect(out).toContain("hard");
        await run("umount", mounted);
        await detach();
        expect(await device.end("SIGTERM")).toBe(0);
        // After an orderly stop the data store is the volume.
        await run(...kind.check(device.dataPath));
      },
      60_000,
    );
  }
});
