/**
 * @module A proxy on a small file system that another program fills up while its archives are away: started by
 * full-disk.test.ts in a mount namespace of its own, with the directory of that file system. Prints what happened as JSON.
 */
import { appendFileSync, existsSync, globSync, statfsSync } from "node:fs";
import type { ProxyStatus } from "../../../src/control/proxy.ts";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { openProxy } from "../../../src/proxy/server.ts";
import { call, testLogger, volume } from "../../helpers/backup-path.ts";
import { FakeArchive } from "../../helpers/fake-archive.ts";
import { logUuid, sendTestLog } from "../../helpers/fake-storage.ts";

const directory = process.argv[2]!;
const mib = 1024 * 1024;
const sizeLb = 16 * 2048;
const platform = createPlatform({ memoryBudgetBytes: 700 * mib, threads: 2 });
const peer = { ...platform, memory: platform.memory.carve(128 * mib) };
const any = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
const dataDir = `${directory}/data`;

function fill(): void {
  for (const chunk of [mib, 4096]) {
    try {
      for (;;) appendFileSync(`${directory}/filler`, Buffer.alloc(chunk, 1));
    } catch {
      // Full.
    }
  }
}

const open = () =>
  openProxy(
    platform,
    { listen: any, dataDir, nodeId: "p0", security: "loopback", retryDelayMs: 50, retryDelayMsMax: 200 },
    testLogger(platform),
  );
let proxy = await open();
const archives = [new FakeArchive(), new FakeArchive()];
for (const [i, archive] of archives.entries()) {
  Object.assign(archive, { state: "SyncReady", uuid: logUuid, image: new Uint8Array(sizeLb * 512) });
  const { address } = await archive.open(peer, any);
  if (address.kind !== "tcp") throw new Error("no TCP address");
  await call(proxy, "add-archive", { volume, archiveName: `a${i}`, address: `127.0.0.1:${address.port}` });
}
await call(proxy, "start", { volume });
for (let gid = 0n; gid < 8n; gid += 1n) {
  const data = crypto.getRandomValues(new Uint8Array(64 * 1024));
  const ios = Array.from({ length: 16 }, (_, i) => ({ kind: "data" as const, offsetLb: i * 128, sizeLb: 128, data }));
  await sendTestLog(peer, proxy.address, { volume, fromGid: gid, toGid: gid + 1n, ios, sizeLb });
}
const filesBefore = globSync(`${dataDir}/${volume}/diffs/*/*.wdiff`).length;
fill();
await proxy.close("force");
fill();
const freeBytes = statfsSync(directory).bavail * statfsSync(directory).bsize;
proxy = await open();
fill();
const pending = async (): Promise<number[]> =>
  (await call<ProxyStatus>(proxy, "status", { volume })).volumes[0]!.archives.map(({ pendingCount }) => pendingCount);
/** Waits until the archives that are there have everything; the second one stays away for longer. */
async function untilPending(counts: readonly number[]): Promise<number[]> {
  for (let i = 0; i < 300; i++) {
    if (Bun.deepEquals(await pending(), counts)) break;
    await Bun.sleep(100);
  }
  return pending();
}
archives[0]!.state = "Archived";
const afterFirst = await untilPending([0, 8]);
archives[1]!.state = "Archived";
const afterSecond = await untilPending([0, 0]);
await call(proxy, "stop", { volume, mode: "graceful" });
const files = globSync(`${dataDir}/${volume}/diffs/*/*.wdiff`).length;
await proxy.close("graceful");
const hasReserve = existsSync(`${dataDir}/.reserved-space`);
console.log(JSON.stringify({ filesBefore, freeBytes, afterFirst, afterSecond, files, hasReserve }));
process.exit(0);
