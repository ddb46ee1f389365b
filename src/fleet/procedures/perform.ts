/** @module Does the steps of a procedure: one call, or a few that belong together, at one server. */
import type { CallParams, CallResult, Commands, JobNames } from "../../control/command.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { type CallOptions, type Client, defaultTimeoutMs } from "../../http/client.ts";
import { archiveClient, proxyClient, sharedClient, storageClient } from "../clients.ts";
import type { FleetServer } from "../fleet.ts";
import type { Action, Step } from "./step.ts";
import { gidOf } from "./view.ts";

/** What doing needs. */
export interface DoingContext {
  readonly signal: AbortSignal;
  /** Time until it is given up; missing: never. */
  leftMs?(): number | undefined;
  /** @throws WalbError `cancelled`, `timed-out`. */
  sleep(ms: number): Promise<void>;
  remark(text: string): void;
  /** Runs a job to its end, shows how far it is, and cancels it when we are interrupted. */
  runJob<C extends Commands, Name extends JobNames<C>>(
    client: Client<C>,
    name: Name,
    params: CallParams<C[Name]>,
  ): Promise<CallResult<C[Name]>>;
  /** Waits until an archive can restore a point. */
  waitRestorable(archive: FleetServer, volume: string, gid: bigint): Promise<void>;
}

/** Stops wait for as long as there is something to finish. */
const stopTimeoutMs = 20 * 86_400_000;
const undoTimeoutMs = 30_000;
/** For one that may not answer at all, when somebody waits for us to end. */
const takeBackTimeoutMs = 5_000;
const pollMs = 300;
const sayMs = 60_000;

/** Options of a call that takes at most so long, and no longer than there is time. */
function within(context: DoingContext, mostMs?: number): CallOptions {
  const leftMs = context.leftMs?.();
  const timeoutMs = leftMs === undefined ? mostMs : Math.min(leftMs, mostMs ?? defaultTimeoutMs);
  return { signal: context.signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
}

type Of<Kind extends Action["kind"]> = Extract<Action, { kind: Kind }>;

/** Does one step. @returns what is worth telling, if anything. */
export async function perform(step: Step, context: DoingContext): Promise<string | undefined> {
  const { at, volume, action } = step;
  const options = within(context);
  switch (action.kind) {
    case "init-storage":
      await storageClient(at).call("init", { volume, device: action.device }, options);
      return;
    case "init-archive":
      await archiveClient(at).call("init", { volume }, options);
      return;
    case "start-target":
    case "start-standby": {
      const mode = action.kind === "start-target" ? "target" : "standby";
      await storageClient(at).call("start", { volume, mode }, options);
      return;
    }
    case "start":
      await sharedClient(at).call("start", { volume }, options);
      return;
    case "stop":
      await sharedClient(at).call("stop", { volume, mode: action.mode }, within(context, stopTimeoutMs));
      return;
    case "stop-empty":
      await stopEmpty(at, volume, context);
      return;
    case "reset":
    case "clear":
      await sharedClient(at).call(action.kind, { volume }, options);
      return;
    case "settle": {
      const { gid } = await storageClient(at).call("snapshot", { volume }, options);
      await context.waitRestorable(action.archive, volume, gid);
      return `snapshot ${gid}`;
    }
    case "backup": {
      const { gid } = await context.runJob(storageClient(at), "backup", { volume, mode: action.mode });
      if (action.archive !== undefined) await context.waitRestorable(action.archive, volume, gid);
      return `snapshot ${gid}`;
    }
    case "register":
    case "unregister":
      await changeProxy(at, volume, action, context);
      return;
    case "replicate": {
      for (;;) {
        const gid =
          (await replicateOnce(at, volume, action.to, context)) ?? (await gidOfRunning(at, volume, action.to));
        if (gid !== undefined) return `up to gid ${gid}`;
        await context.sleep(pollMs);
      }
    }
    case "catch-up":
      await catchUp(at, volume, action, context);
      return;
    case "await-sync":
      await awaitSync(at, volume, context);
      return;
    case "kick":
      await proxyClient(at).call("kick", { volume }, options);
      return;
    case "set-archive":
      await storageClient(at).call("set-archive", { address: action.archive.address }, options);
      return;
    case "set-proxies":
      await storageClient(at).call("set-proxies", { addresses: [...action.addresses] }, options);
  }
}

/** Everything is delivered, then the proxy is stopped. Given up, it is as before. */
async function stopEmpty(at: FleetServer, volume: string, context: DoingContext): Promise<void> {
  const client = proxyClient(at);
  await client.call("kick", { volume }, within(context));
  try {
    await client.call("stop", { volume, mode: "empty" }, within(context, stopTimeoutMs));
  } catch (error) {
    // Only one that still waits can be started; a failure of the undoing must not hide the first one.
    await client.call("start", { volume }, { timeoutMs: undoTimeoutMs }).catch(() => undefined);
    throw error;
  }
}

/**
 * A proxy learns of an archive, or forgets one: it must be stopped for that moment. It is started again whatever happens,
 * also when somebody interrupts.
 */
async function changeProxy(
  at: FleetServer,
  volume: string,
  action: Of<"register"> | Of<"unregister">,
  context: DoingContext,
): Promise<void> {
  const client = proxyClient(at);
  const status = await client.call("status", { volume }, within(context));
  const { state = "Clear", archives = [] } = status.volumes[0] ?? {};
  if (state === "Clear" && action.kind === "unregister") return;
  const start = (timeoutMs: number): Promise<unknown> => client.call("start", { volume }, { timeoutMs });
  if (state !== "Clear" && state !== "Stopped") {
    try {
      await client.call("stop", { volume, mode: "graceful" }, within(context, stopTimeoutMs));
    } catch (error) {
      // It may come to its end without us.
      await start(takeBackTimeoutMs).catch(() => {
        const command = `walb start ${volume} --server ${at.name}`;
        context.remark(`${at.name} may have stopped ${volume}; if this is not repeated, say: ${command}`);
      });
      throw error;
    }
  }
  const { name: archiveName, address } = action.archive;
  let failure: WalbError | undefined;
  try {
    if (action.kind === "unregister") {
      if (archives.some((entry) => entry.archiveName === archiveName)) {
        await client.call("remove-archive", { volume, archiveName }, { timeoutMs: undoTimeoutMs });
      }
    } else {
      const compression = action.compression === undefined ? {} : { compression: action.compression };
      const delayS = action.delayS === undefined ? {} : { delayS: action.delayS };
      const entry = { volume, archiveName, address, ...compression, ...delayS };
      await client.call("add-archive", entry, { timeoutMs: undoTimeoutMs });
    }
  } catch (error) {
    failure = asWalbError(error);
  }
  const isThere = state !== "Clear" || failure === undefined;
  if (isThere) {
    await start(undoTimeoutMs).catch((error: unknown) => {
      failure ??= asWalbError(error);
    });
  }
  if (failure !== undefined) throw failure;
}

/** @returns the gid it brought the other archive to; nothing when another replication to it runs, begun by somebody before. */
async function replicateOnce(
  at: FleetServer,
  volume: string,
  to: FleetServer,
  context: DoingContext,
): Promise<bigint | undefined> {
  try {
    return (await context.runJob(archiveClient(at), "replicate", { volume, to: to.address })).gid;
  } catch (error) {
    if (asWalbError(error).code !== "busy") throw error;
    const known = (await archiveClient(at).call("status", { volume }, within(context))).volumes[0];
    if (known?.replicas?.some((one) => one.to === to.address) !== true) throw error;
    return undefined;
  }
}

/** How far the replication that runs already is, when that is all there was: one that follows never ends. */
async function gidOfRunning(at: FleetServer, volume: string, to: FleetServer): Promise<bigint | undefined> {
  const known = (await archiveClient(at).call("status", { volume })).volumes[0];
  const replica = known?.replicas?.find((one) => one.to === to.address);
  const isThere = replica?.gid !== undefined && replica.gid >= (known?.newestPoint?.gid ?? 0n);
  return isThere ? replica.gid : undefined;
}

/**
 * What the proxies had received before they knew of an archive goes to the primary one alone: only when it has all of that,
 * and the other one has it from there, does what the proxies send later lead on.
 */
async function catchUp(at: FleetServer, volume: string, action: Of<"catch-up">, context: DoingContext): Promise<void> {
  const newestAt = async (archive: FleetServer): Promise<bigint> => {
    const { volumes } = await archiveClient(archive).call("status", { volume }, within(context));
    return volumes[0] === undefined ? -1n : gidOf(volumes[0]);
  };
  let goal = await newestAt(at);
  for (const proxy of action.proxies) {
    const { volumes } = await proxyClient(proxy).call("status", { volume }, within(context));
    const waiting = volumes[0]?.archives.find(({ archiveName }) => archiveName === at.name);
    if (waiting === undefined || waiting.pendingCount === 0) continue;
    if (waiting.latestGid !== undefined && waiting.latestGid > goal) goal = waiting.latestGid;
    // One that is stopped meanwhile has nothing to try, and is waited for.
    await proxyClient(proxy)
      .call("kick", { volume }, within(context))
      .catch(() => undefined);
  }
  for (let quietMs = 0; ; quietMs += pollMs) {
    await replicateOnce(at, volume, action.to, context);
    const reached = await newestAt(action.to);
    if (reached >= goal) break;
    if (quietMs % sayMs === 0) {
      const what = `${action.to.name} has ${volume} up to gid ${reached}`;
      context.remark(`${what}; waiting until ${at.name} has what the proxies hold up to gid ${goal}`);
    }
    await context.sleep(pollMs);
  }
  for (const proxy of action.proxies) {
    await proxyClient(proxy)
      .call("kick", { volume }, within(context))
      .catch(() => undefined);
  }
}

/** @throws WalbError `state` when a backup did not come to its end. */
async function awaitSync(at: FleetServer, volume: string, context: DoingContext): Promise<void> {
  const ask = () =>
    at.role === "storage"
      ? storageClient(at).call("status", { volume }, within(context))
      : archiveClient(at).call("status", { volume }, within(context));
  for (;;) {
    const known = (await ask()).volumes[0];
    const state = known?.state ?? "Clear";
    if (state !== "FullSync" && state !== "HashSync") {
      if (at.role !== "storage" || state === "Target") return;
      throw new WalbError("state", {
        what: `the backup that was under way did not come to its end (state ${state})`,
        where: { host: at.name, volume },
        hint: "repeat the command; it begins another one",
      });
    }
    await context.sleep(pollMs);
  }
}
