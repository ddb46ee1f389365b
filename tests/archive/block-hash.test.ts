import { describe, expect, test } from "bun:test";
import { RecordKind } from "../../src/diff/types.ts";
import { blockHash } from "../../src/image/hash.ts";
import { fileInput } from "../../src/log/wlogfile.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { runBhash, runVirtualScan } from "../../src/wire/scan.ts";
import { codeOf } from "../helpers/errors.ts";
import { openTestArchive, run, statusOf } from "./harness.ts";
import { Chance } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";
import { platform, withArchive } from "./real.ts";

const mib = 1024 * 1024;
const volume = "vol0";

describe("the hash of a volume with holes", () => {
  test("is that of all its bytes, whatever the bulk and wherever data, discards and zeroes lie", async () => {
    await withArchive(async (scene) => {
      const { control } = scene.role;
      const sizeLb = 40 * 2048 + 3;
      const image = new Uint8Array(sizeLb * 512);
      const random = new Chance(11);
      const noise = (bytes: number) => Uint8Array.from({ length: bytes }, () => random.between(1, 255));
      for (const [startLb, blocksLb] of [
        [0, 8],
        [5000, 300],
        [40_000, 1],
        [sizeLb - 5, 5],
      ] as const) {
        image.set(noise(blocksLb * 512), startLb * 512);
      }
      await run(control, "init", { volume });
      await sendImage(scene.peer, image, { gidE: 0n, bulkLb: 8 });
      const empty = new Uint8Array(0);
      const records = [
        { addressLb: 5100, blocksLb: 4096, kind: RecordKind.discard, data: empty },
        { addressLb: 20_000, blocksLb: 16, kind: RecordKind.normal, data: noise(16 * 512) },
        { addressLb: 30_000, blocksLb: 2048, kind: RecordKind.allZero, data: empty },
      ];
      await sendDiff(scene.peer, 0, 1, records, { sizeLb });
      const to = `${scene.directory}/restored.img`;
      await run(control, "restore", { volume, to });
      const file = await platform.disk.open(to, { mode: "read" });
      try {
        for (const bulkLb of [1, 7, 96, 128, 8192]) {
          const { hash } = await run(control, "bhash", { volume, bulkLb });
          const wanted = await blockHash(platform, await fileInput(file), bulkLb * 512);
          expect(`bulk ${bulkLb}: ${hash}`).toBe(`bulk ${bulkLb}: ${wanted}`);
        }
      } finally {
        await file.close();
      }
    });
  }, 60_000);

  test("is made without reading them", async () => {
    const world = createSimWorld(14);
    const archive = world.host("archive", { memoryBytes: 320 * mib });
    const client = world.host("client", { memoryBytes: 64 * mib });
    const listen = { kind: "tcp", host: "", port: 10200 } as const;
    const role = await world.complete(() => openTestArchive(archive.platform, "/data", { listen }));
    const call = (name: string, params: object = {}) =>
      world.complete(() => run(role.control, name, { volume, ...params }));
    await call("init");
    const peer = { platform: client.platform, address: { ...listen, host: "archive" } };
    await world.complete(() => sendImage(peer, new Uint8Array(4096).fill(1), { gidE: 0n, bulkLb: 8 }));
    await call("resize", { sizeLb: 8 * 1024 * 2048 });
    let readBytes = 0;
    archive.storage.onOperation = ({ kind, path, sizeBytes }) => {
      if (kind === "read" && path.endsWith("base.img")) readBytes += sizeBytes;
    };
    // With another seed for each bulk, zeroes of one are not those of another.
    const whole = (await call("bhash")).hash;
    expect(readBytes).toBeLessThanOrEqual(mib);
    expect((await call("bhash", { sizeLb: 4 * 1024 * 2048 })).hash).not.toBe(whole);
    world.close();
  });
});

describe("when the client of a scan is killed", () => {
  // At the lower rate there is a write to the client once in 16 seconds only.
  for (const [protocol, rateKib] of [
    ["bhash", 512],
    ["bhash", 4],
    ["virt-full-scan", 512],
    ["virt-full-scan", 4],
  ] as const) {
    test(`its ${protocol} at ${rateKib} KiB/s ends within seconds, and the volume can be resized`, async () => {
      const world = createSimWorld(15);
      const archive = world.host("archive", { memoryBytes: 320 * mib });
      const client = world.host("client", { memoryBytes: 64 * mib });
      const { platform } = client;
      const listen = { kind: "tcp", host: "", port: 10200 } as const;
      const address = { ...listen, host: "archive" };
      const role = await world.complete(() => openTestArchive(archive.platform, "/data", { listen }));
      const call = (name: string, params: object = {}) => world.complete(() => run(role.control, name, params));
      await call("init", { volume });
      const chance = new Chance(15);
      const noise = Uint8Array.from({ length: 16 * mib }, () => chance.between(0, 255));
      await world.complete(() => sendImage({ platform, address }, noise, { gidE: 0n }));
      await call("set-rates", { scanBytesPerS: rateKib * 1024 });
      void (async () => {
        const { clock, net } = platform;
        const { stream } = await connectWire(net, address, { clock, clientId: "c", protocol });
        if (protocol === "bhash") return void (await runBhash(stream, [volume, "0"]));
        const sink = { begin() {}, write: (bulk: { release(): void }) => bulk.release(), async finish() {} };
        await runVirtualScan(stream, [volume, "0"], 128, platform.memory, { ...sink, async abandon() {} });
      })().catch(() => undefined);
      await world.run(5_000);
      const resize = (sizeLb: number) => world.complete(() => codeOf(run(role.control, "resize", { volume, sizeLb })));
      const running = async () => (await world.complete(() => statusOf(role.control))).running;
      expect(await running()).toMatchObject([{ action: "Scan" }]);
      client.kill();
      await world.run(5_000);
      expect(await running()).toEqual([]);
      expect(await resize(17 * 2048)).toBe("no error");
      world.close();
    });
  }
});
