import { expect, test } from "bun:test";
import { Seeded } from "../../src/cli/demo/files.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { OriginalFleet } from "../helpers/original-fleet.ts";

const mib = 1 << 20;

test("two of each: replicate, add a second archive, grow, and switch the target between two storages", async () => {
  const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
  const fleet = await OriginalFleet.start({ storages: 2, proxies: 2, archives: 2 });
  const library = fleet.controller;
  const [s0, s1] = library.layout.storages as [never, never];
  const [a0, a1] = library.layout.archives as [never, never];
  const random = new Seeded(11);
  const clients: NbdClient[] = [];
  try {
    for (const [storage, name] of [
      [s0, "w0"],
      [s1, "w1"],
    ] as const) {
      const path = await fleet.makeDevice(name, "4M", "8M");
      clients.push(await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, name));
      await library.initStorage(storage, "vol0", path);
    }
    const write = async (client: NbdClient, offset: number): Promise<void> => {
      await client.write(offset, random.noise(8192));
      await client.flush();
    };
    await write(clients[0]!, 0);
    await library.fullBackup(s0, "vol0");
    const gid = await library.replicateOnce(a0, "vol0", a1);
    expect(await library.getBlockHash(a1, "vol0", gid)).toBe(await library.getBlockHash(a0, "vol0", gid));
    await library.startSynchronizing(a1, "vol0");
    await write(clients[0]!, mib);
    const both = await library.snapshot(s0, "vol0", [a0, a1]);
    expect(await library.getBlockHash(a1, "vol0", both)).toBe(await library.getBlockHash(a0, "vol0", both));
    expect(await library.isSynchronizing(a1, "vol0")).toBe(true);
    await library.stopSynchronizing(a1, "vol0");
    await library.resize("vol0", 5);
    await write(clients[0]!, 4 * mib);
    await library.snapshot(s0, "vol0");
    expect(await library.getVolumeSizeLb(a0, "vol0")).toBe((5 * mib) / 512);
    await library.goStandby(s0, "vol0");
    await write(clients[1]!, 2 * mib);
    await library.hashBackup(s1, "vol0");
    await library.verifyState(s0, "vol0", "Standby");
    await library.verifyState(s1, "vol0", "Target");
    for (const server of library.all) await library.clear(server, "vol0");
    for (const server of library.all) expect(await library.volumes(server)).toEqual([]);
  } finally {
    for (const client of clients) client.close();
    await fleet.close();
    await closePlatform(platform);
  }
}, 180_000);
