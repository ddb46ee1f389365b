import { afterAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { archiveClient, proxyClient, storageClient } from "../../src/cli/servers.ts";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { Fleet } from "../helpers/fleet.ts";

const count = Number(process.env.WALB_IDLE_VOLUMES ?? "60");
const idleMs = Number(process.env.WALB_IDLE_MS ?? "5000");
const mib = 1 << 20;
let fleet: Fleet | undefined;
afterAll(() => fleet?.close(), 60_000);

/** CPU time of a process so far. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function memoryMib(pid: number, field: "VmRSS" | "VmHWM"): number {
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

test("volumes that nobody writes to cost a storage nearly nothing, and each says that it is idle", async () => {
  fleet = await Fleet.start({ flags: { storage: ["--max-foreground-tasks", "8"] } });
  const { ports } = fleet;
  const at = (name: string, port: number) => ({ name, address: `127.0.0.1:${port}` });
  const storage = storageClient(at("s0", ports.storage));
  const proxy = proxyClient(at("p0", ports.proxy));
  const archive = archiveClient(at("a0", ports.archive));
  const platform = createPlatform({ memoryBudgetBytes: 16 * mib, threads: 2 });
  const control = await deviceControlClient(platform, fleet.controlSocket);
  const make = async (volume: string): Promise<void> => {
    await control.create({ name: volume, sizeBytes: 4 * mib, logSizeBytes: mib });
    await archive.call("init", { volume });
    await proxy.call("add-archive", { volume, archiveName: "a0", address: `127.0.0.1:${ports.archive}` });
    await proxy.call("start", { volume });
    await storage.call("init", { volume, device: { kind: "user", name: volume } });
    await storage.run("backup", { volume, mode: "full" });
  };
  const names = Array.from({ length: count }, (_, i) => `vol${i}`);
  // The archive takes two backups at a time.
  await Promise.all(
    [0, 1].map(async (first) => {
      for (let i = first; i < count; i += 2) await make(names[i]!);
    }),
  );
  await control.close();
  await closePlatform(platform);
  const settled = async (): Promise<boolean> => {
    const { volumes } = await storage.call("status", {});
    return volumes.every(({ waiting, lagBytes }) => waiting?.step === "log transfer" && lagBytes === 0);
  };
  for (let i = 0; i < 300 && !(await settled()); i++) await Bun.sleep(100);
  await Bun.sleep(1000);
  const pid = fleet.pidOf("storage");
  const before = cpuMs(pid);
  await Bun.sleep(idleMs);
  const usedMs = cpuMs(pid) - before;
  const { volumes } = await storage.call("status", {});
  console.log(
    `${count} idle volumes: ${((100 * usedMs) / idleMs).toFixed(2)} % CPU, ${memoryMib(pid, "VmRSS").toFixed(0)} MiB, at most ${memoryMib(pid, "VmHWM").toFixed(0)} MiB`,
  );
  expect(volumes).toHaveLength(count);
  for (const { state, waiting } of volumes) {
    expect({ state, why: waiting?.why }).toEqual({ state: "Target", why: "all that was written is delivered" });
    expect(waiting).toMatchObject({ host: "s0", sinceMs: expect.any(Number), next: expect.any(String) });
  }
  // The mark is one percent; a slow machine gets three, in ticks of 10 ms.
  expect(usedMs).toBeLessThanOrEqual(0.03 * idleMs);
  expect(memoryMib(pid, "VmHWM")).toBeLessThan(200);
}, 180_000);
