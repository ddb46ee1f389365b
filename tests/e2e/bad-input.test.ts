import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { eventually, Fleet, runBinary } from "../helpers/fleet.ts";

const platform = createPlatform({ memoryBudgetBytes: 64 << 20 });
afterAll(() => closePlatform(platform));

const sizeBytes = 64 << 20;

/** A volume whose bytes are known. */
class Known {
  readonly model = Buffer.alloc(sizeBytes);
  readonly #random = new Seeded(5);
  constructor(
    readonly fleet: Fleet,
    readonly volume: string,
  ) {}

  /** Writes at random and flushes. */
  async write(count: number): Promise<void> {
    const client = await NbdClient.connect(platform.net, { kind: "unix", path: this.fleet.nbdSocket }, this.volume);
    for (let i = 0; i < count; i += 1) {
      const length = 4096 * (1 + this.#random.below(16));
      const offset = 4096 * this.#random.below((sizeBytes - length) / 4096);
      const data = this.#random.noise(length);
      await client.write(offset, data);
      this.model.set(data, offset);
    }
    await client.flush();
    client.close();
  }

  /** Saves the model; answers the path. */
  save(name: string): string {
    const path = this.fleet.path(name);
    writeFileSync(path, this.model);
    return path;
  }
}

async function backedUp(fleet: Fleet, volume: string): Promise<Known> {
  await fleet.makeVolume(volume, "64M", "256M");
  const known = new Known(fleet, volume);
  await known.write(50);
  await fleet.must("backup", volume, "--wait");
  return known;
}

async function snapshot(fleet: Fleet, volume: string): Promise<string> {
  const out = await fleet.must("snapshot", volume, "--wait", "--timeout", "60s", "--json");
  return String((JSON.parse(out) as { gid: number }).gid);
}

async function expectRestores(fleet: Fleet, volume: string, gid: string, model: string): Promise<void> {
  const to = fleet.path(`restored-${volume}-${gid}`);
  await fleet.must("restore", volume, "--snapshot", gid, "--to", to, "--overwrite");
  expect(await firstDifference(model, to)).toBeUndefined();
}

/** Text of a status, for looking for a trouble in it. */
async function statusText(fleet: Fleet, volume: string): Promise<string> {
  return (await fleet.verb("status", volume, "--json")).out;
}

describe("bad input gives a message that helps, and nothing is lost", () => {
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = await Fleet.start();
  }, 300_000);
  afterAll(() => fleet?.close(), 60_000);

  test("an unknown volume", async () => {
    for (const verb of [["snapshots"], ["backup"], ["snapshot"], ["restore", "--to", fleet.path("x")]]) {
      const { code, err } = await fleet.verb(verb[0]!, "nosuch", ...verb.slice(1));
      expect({ verb, code, err }).toEqual({ verb, code: 1, err });
      expect(err).toContain("nosuch");
      expect(err).toContain("walb init nosuch --device NAME");
      expect(err).not.toMatch(/\bat .*\.ts:/);
    }
  }, 300_000);

  test("a port in use", async () => {
    const { code, err } = await runBinary([
      ...["archive", "--data", fleet.path("second-archive"), "--port", String(fleet.ports.archive)],
    ]);
    expect(code).toBe(1);
    expect(err).toContain(`127.0.0.1:${fleet.ports.archive}`);
    expect(err).toMatch(/in use/);
  }, 300_000);

  test("a data directory that another daemon uses", async () => {
    const { code, err } = await runBinary(["archive", "--data", fleet.dataOf("archive"), "--port", "0"]);
    expect(code).toBe(7);
    expect(err).toContain("another walb daemon uses this data directory");
  }, 300_000);

  test("a truncated diff costs its points, names them, and leaves the others restorable", async () => {
    const known = await backedUp(fleet, "cut");
    const first = await snapshot(fleet, "cut");
    const model = known.save("cut-first");
    // Nothing ships meanwhile, so that all of it becomes one diff.
    await fleet.kill("proxy");
    await known.write(40);
    const taken = JSON.parse(await fleet.must("snapshot", "cut", "--json")) as { gid: number };
    const second = String(taken.gid);
    await fleet.run("proxy");
    await fleet.must("snapshot", "cut", "--wait", "--timeout", "60s");
    const directory = join(fleet.dataOf("archive"), "cut");
    const diffs = readdirSync(directory).filter((name) => name.endsWith(".wdiff"));
    const damaged = diffs.find((name) => name.endsWith(`-${second}.wdiff`))!;
    truncateSync(join(directory, damaged), 5000);
    const to = fleet.path("cut-second");
    const restore = () => fleet.verb("restore", "cut", "--snapshot", second, "--to", to);
    const anew = "walb stop cut, walb reset cut, walb start cut, walb backup cut";

    const found = await restore();
    expect(found.code).toBe(5);
    expect(found.err).toContain(`file ${join(directory, damaged)}, offset 32, field total_size: the diff ends inside`);
    expect(found.err.match(/without this diff these points are lost/g)).toHaveLength(1);
    expect(found.err).toMatch(new RegExp(`points are lost: .*gid ${second} \\(.*still restorable: .*gid ${first} \\(`));
    expect(found.err).toMatch(
      new RegExp(`\\n  put the file back .* walb restore cut --server \\S+ --snapshot GID .*${anew}\\n$`),
    );
    expect(await statusText(fleet, "cut")).toContain(damaged);

    await fleet.stop("archive");
    await fleet.run("archive");
    const gone = await restore();
    expect(gone.code).toBe(6);
    expect(gone.err).toContain(`gid ${second} is not restorable; the nearest is before it gid ${first} (`);
    expect(gone.err).toContain(`the diff ${damaged} cannot be used: the file has 5000 bytes instead of `);
    expect(gone.err).not.toMatch(/\d\dT\d\d:/);
    expect(gone.err).toContain("\n  choose one of these points, or see all: walb snapshots cut --server a0 --all\n");
    expect(await statusText(fleet, "cut")).toContain(anew);
    expect(readdirSync(fleet.directory).filter((name) => name.startsWith("cut-second"))).toEqual([]);
    await expectRestores(fleet, "cut", first, model);

    // The way out that was named works.
    for (const words of [["stop"], ["reset", "--yes"], ["start"], ["backup", "--wait", "--timeout", "20s"]]) {
      await fleet.must(words[0]!, "cut", ...words.slice(1));
    }
    await known.write(10);
    const again = known.save("cut-again");
    await expectRestores(fleet, "cut", await snapshot(fleet, "cut"), again);
  }, 300_000);

  test("a log that was reset behind the storage's back", async () => {
    const known = await backedUp(fleet, "reset");
    const gid = await snapshot(fleet, "reset");
    const model = known.save("reset-before");
    await fleet.must("device", "reset-log", "reset", "--yes", "--device-data", fleet.dataOf("device"));
    await known.write(5);
    const text = await eventually("the trouble", 20_000, async () => {
      const status = await statusText(fleet, "reset");
      return status.includes("different-uuid") ? status : undefined;
    });
    expect(text).toContain("the log of the device was reset by somebody else");
    expect((await fleet.verb("status", "reset")).code).not.toBe(0);
    await expectRestores(fleet, "reset", gid, model);
  }, 300_000);

  test("a damaged log header is told with lsid, file and offset, and shipping goes on when it is mended", async () => {
    const known = await backedUp(fleet, "header");
    await snapshot(fleet, "header");
    await fleet.kill("proxy");
    await known.write(30);
    const out = await statusText(fleet, "header");
    const doneLsid = Number(/"doneLsid":(\d+)/.exec(out)![1]);
    const logPath = join(fleet.dataOf("device"), "header.log");
    const pbsBytes = Number(/"pbsBytes":(\d+)/.exec(out)![1]);
    const offset = 4096 + 2 * pbsBytes + doneLsid * pbsBytes;
    const file = openSync(logPath, "r+");
    const header = Buffer.alloc(512);
    readSync(file, header, 0, 512, offset);
    writeSync(file, Buffer.from("damage"), 0, 6, offset + 100);
    await fleet.run("proxy");
    const text = await eventually("the trouble", 20_000, async () => {
      const status = await statusText(fleet, "header");
      return status.includes('"damaged"') ? status : undefined;
    });
    expect(text).toContain(`${doneLsid}`);
    expect(text).toContain("header.log");
    expect(text).toContain(`${offset}`);
    writeSync(file, header, 0, 512, offset);
    closeSync(file);
    const model = known.save("header-after");
    await expectRestores(fleet, "header", await snapshot(fleet, "header"), model);
  }, 300_000);
});

const isRoot = process.getuid?.() === 0;

/** A small file system of its own; undefined where it cannot be mounted. */
function mountTmpfs(path: string, size: string): boolean {
  mkdirSync(path, { recursive: true });
  return Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path]).exitCode === 0;
}

describe("a full disk", () => {
  const small = `/tmp/walb-e2e-small-${process.pid}`;
  const isMounted = isRoot && mountTmpfs(small, "24M");
  let fleet: Fleet | undefined;
  afterAll(async () => {
    await fleet?.close();
    if (isMounted) Bun.spawnSync(["umount", "-l", small]);
    rmSync(small, { recursive: true, force: true });
  }, 300_000);

  // Mounting needs root; elsewhere the roles' own tests cover a full disk in the simulator.
  test.skipIf(!isMounted)(
    "at the proxy stops shipping with a reason, and nothing is lost when there is room again",
    async () => {
      fleet = await Fleet.start({ data: { proxy: join(small, "proxy") } });
      const known = await backedUp(fleet, "full");
      await fleet.kill("archive");
      await known.write(900);
      const text = await eventually("the trouble", 30_000, async () => {
        const status = await statusText(fleet!, "full");
        return status.includes("free") || status.includes("no-space") ? status : undefined;
      });
      expect(text).toMatch(/MiB free|no-space|No space/);
      expect(Bun.spawnSync(["mount", "-o", "remount,size=400M", small]).exitCode).toBe(0);
      await fleet.run("archive");
      const model = known.save("full-after");
      await expectRestores(fleet, "full", await snapshot(fleet, "full"), model);
    },
    120_000,
  );
});
