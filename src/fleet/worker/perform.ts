/** @module Does what the worker planned, through the archives' API. */
import { archiveClient } from "../clients.ts";
import type { Fleet, FleetServer } from "../fleet.ts";
import type { WorkerMemory } from "./collect.ts";
import type { WorkerTask } from "./plan.ts";
import type { WorkerPolicy } from "./policy.ts";

/** What doing a task needs. */
export interface PerformContext {
  readonly fleet: Fleet;
  readonly policy: WorkerPolicy;
  readonly memory: WorkerMemory;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

/** Does a task to its end. @throws WalbError what the archive answered. */
export async function performTask(task: WorkerTask, context: PerformContext): Promise<void> {
  const { memory, signal, policy, fleet } = context;
  const { volume } = task;
  const client = archiveClient(serverNamed(fleet, task.archive));
  const beganMs = context.nowMs();
  switch (task.kind) {
    case "apply":
      memory.applyMs.set(volume, beganMs);
      await client.run("apply", { volume, gid: task.gid }, { signal });
      return;
    case "merge": {
      memory.mergeMs.set(volume, beganMs);
      const { fromGid, toGid, disableGids } = task;
      if (disableGids.length > 0) {
        await client.call("disable-snapshot", { volume, gids: [...disableGids] }, { signal });
      }
      await client.run("merge", { volume, fromGid, toGid }, { signal });
      return;
    }
    case "replicate": {
      const times = memory.replicateMs.get(volume) ?? new Map<string, number>();
      memory.replicateMs.set(volume, times.set(task.to, beganMs));
      const { mergeBytesMax, compress } = policy.replicate;
      const replica = serverNamed(fleet, task.to);
      await makePlace(replica, volume, signal);
      const params = { volume, to: replica.address, mergeBytesMax, compression: compress };
      await client.run("replicate", task.gid === undefined ? params : { ...params, untilGid: task.gid }, { signal });
      return;
    }
  }
}

/** Makes the volume known to an archive that it is new to. */
async function makePlace(archive: FleetServer, volume: string, signal: AbortSignal): Promise<void> {
  const client = archiveClient(archive);
  const { volumes } = await client.call("status", { volume }, { signal });
  if ((volumes[0]?.state ?? "Clear") === "Clear") await client.call("init", { volume }, { signal });
}

function serverNamed(fleet: Fleet, name: string): FleetServer {
  return fleet.servers.find((server) => server.name === name)!;
}

/** A task in words: `apply vol0 at a0 up to gid 7`. */
export function taskText(task: WorkerTask): string {
  const { archive, volume } = task;
  switch (task.kind) {
    case "apply":
      return `apply ${volume} at ${archive} up to gid ${task.gid}`;
    case "merge": {
      const disabled = task.disableGids.length === 0 ? "" : `, disabling snapshots ${task.disableGids.join(" ")}`;
      return `merge ${volume} at ${archive} from gid ${task.fromGid} to ${task.toGid}${disabled}`;
    }
    case "replicate":
      return `replicate ${volume} from ${archive} to ${task.to}${task.gid === undefined ? "" : ` until gid ${task.gid}`}`;
  }
}
