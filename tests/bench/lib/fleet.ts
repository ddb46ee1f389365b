/** @module Volumes of a fleet of real daemons, for the paths that need all roles. */
import { archiveClient, proxyClient, storageClient } from "../../../src/cli/servers.ts";
import { Fleet, type Role } from "../../helpers/fleet.ts";
import { fill, type NbdTarget, writeLoad } from "./load.ts";

const roles: readonly Role[] = ["device", "storage", "proxy", "archive"];
const arriveMs = 300_000;

let isProtected = false;

/** Fleets made from now on have a cluster key. */
export function protectFleets(): void {
  isProtected = true;
}

/** Runs `use` with four daemons, which end afterwards. */
export async function withFleet<T>(use: (fleet: Fleet) => Promise<T>): Promise<T> {
  const fleet = await Fleet.start({ isProtected });
  try {
    return await use(fleet);
  } finally {
    await fleet.close();
  }
}

/** Process ids by role. */
export function pidsOf(fleet: Fleet): Record<Role, number> {
  return Object.fromEntries(roles.map((role) => [role, fleet.pidOf(role)])) as Record<Role, number>;
}

export function targetOf(fleet: Fleet, volume: string): NbdTarget {
  return { socketPath: fleet.nbdSocket, exportName: volume };
}

/** Typed clients of the three roles with HTTP. */
export function clientsOf(fleet: Fleet) {
  const key = isProtected ? { clusterKey: fleet.keyFile } : {};
  const at = (name: string, port: number) => ({ name, address: `${fleet.host}:${port}`, ...key });
  return {
    storage: storageClient(at("s0", fleet.ports.storage)),
    proxy: proxyClient(at("p0", fleet.ports.proxy)),
    archive: archiveClient(at("a0", fleet.ports.archive)),
  };
}

/** Makes a volume and writes all of it once. */
export async function makeFilledVolume(
  fleet: Fleet,
  volume: string,
  sizeBytes: number,
  logBytes: number,
): Promise<void> {
  await fleet.makeVolume(volume, `${sizeBytes}`, `${logBytes}`);
  await writeLoad(targetOf(fleet, volume), fill(sizeBytes, sizeBytes), fleet.directory);
}

/** Waits until a snapshot can be restored. @throws when it takes too long. */
export async function arrived(fleet: Fleet, volume: string, gid: bigint): Promise<void> {
  const { archive } = clientsOf(fleet);
  const endMs = performance.now() + arriveMs;
  for (;;) {
    const { volumes } = await archive.call("status", { volume });
    if ((volumes[0]?.newestPoint?.gid ?? -1n) >= gid) return;
    if (performance.now() > endMs) {
      throw new Error(`snapshot ${gid} of ${volume} did not arrive:\n${fleet.log("storage")}${fleet.log("proxy")}`);
    }
    await Bun.sleep(25);
  }
}
