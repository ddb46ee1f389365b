/** @module The original's commands of an archive. */
import { lbBytes, mib } from "../../units.ts";
import { parseBulkLb, parseNumber, parseSizeBytes, parseStopMode, parseU64 } from "../../wire/grammar.ts";
import { PeerError } from "../../wire/words.ts";
import { callCommand, type LegacyCall, type LegacyCommands, type LegacyReply, ok, startJob } from "./command.ts";
import { atLeast, exactly, type Guard, volumeName } from "./refusal.ts";
import { stopReply } from "./stop.ts";
import { resizeLb } from "./storage.ts";

const activeStates = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"];

const imageStates = [...activeStates, "Stopped"];
/** What is zeroed longer than this goes on behind the answer: controllers wait 10 s. */
const zeroClearWaitMs = 5_000;

export const archiveLegacy: LegacyCommands = {
  async "init-vol"(call) {
    const guard: Guard = { server: "c2aInitVolServer", states: ["Clear"], via: "InitVol", isStopChecked: false };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "init", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async "clear-vol"(call) {
    const guard: Guard = {
      server: "c2aClearVolServer",
      states: ["SyncReady", "Stopped"],
      via: "ClearVol",
      isStopChecked: false,
    };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "clear", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async "reset-vol"(call) {
    const guard: Guard = {
      server: "c2aResetVolServer",
      states: ["SyncReady", "Stopped"],
      via: "ResetVol",
      isStopChecked: false,
    };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "reset", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async start(call) {
    const guard: Guard = { server: "c2aStartServer", states: ["Stopped"], via: "Start", isStopChecked: false };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "start", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async stop(call) {
    atLeast(1, call.parameters);
    const [name, text] = call.parameters;
    const mode = parseStopMode(text);
    if (mode === "empty") throw new PeerError("parseStopParam:stop empty is not allowed.");
    return stopReply(call, { volume: volumeName(name!), mode });
  },

  async apply(call) {
    const guard: Guard = { server: "c2aApplyServer", states: activeStates };
    const { volume, gid } = volumeAndGid(call, guard);
    return startJob(call, guard, "apply", { volume, gid }, ({ code, what }) => {
      if (code !== "state") return undefined;
      const base = /<\|.*>/.exec(what)?.[0];
      return `verifyApplicable:gid not applicable:${volume}:${gid}${base === undefined ? "" : `:${base}`}`;
    });
  },

  async merge(call) {
    const guard: Guard = { server: "c2aMergeServer", states: activeStates };
    exactly(guard.server, 4, call.parameters);
    const [name, from, kind, limit] = call.parameters as [string, string, string, string];
    const volume = volumeName(name);
    const fromGid = parseU64(from, "gidB");
    if (kind !== "size" && kind !== "gid") throw new PeerError(`parseMergeParam:bad type:${kind}`);
    const bound =
      kind === "gid"
        ? { toGid: parseU64(limit, "gidE") }
        : { maxBytes: parseNumber(limit, "size", Math.floor(Number.MAX_SAFE_INTEGER / mib)) * mib };
    return startJob(call, guard, "merge", { volume, fromGid, ...bound }, ({ code }) =>
      code === "state" || code === "not-found" ? "verifyMergeable:There is no mergeable diff." : undefined,
    );
  },

  async replicate(call) {
    const guard: Guard = { server: "c2aReplicateServer", states: activeStates };
    atLeast(4, call.parameters);
    const [name, kind, limit, to, resync = "0", dontMerge = "0", compression, mergeMax, bulk] = call.parameters as [
      string,
      string,
      string,
      string,
      ...string[],
    ];
    if (kind !== "size" && kind !== "gid") throw new PeerError(`parseReplicateParam:bad type:${kind}`);
    const params = {
      volume: volumeName(name),
      to,
      ...(kind === "gid" ? { untilGid: parseU64(limit, "gid") } : { remainingMib: parseNumber(limit, "size") }),
      resync: parseU64(resync, "doResync") !== 0n,
      keepAllPoints: parseU64(dontMerge, "dontMerge") !== 0n,
      ...(compression === undefined ? {} : { compression }),
      ...(mergeMax === undefined ? {} : { mergeBytesMax: parseSizeBytes(mergeMax, "maxWdiffMergeSize") }),
      ...(bulk === undefined ? {} : { bulkBytes: parseBulkLb(bulk) * lbBytes }),
    };
    return startJob(call, guard, "replicate", params, ({ what }) => {
      const refusal = /was refused: (.*)$/s.exec(what)?.[1];
      return refusal === undefined ? undefined : `runReplSync1stNegotiation:${refusal}`;
    });
  },

  async resize(call) {
    const guard: Guard = {
      server: "c2aResizeServer",
      states: [...activeStates, "Stopped", "SyncReady"],
    };
    atLeast(2, call.parameters);
    const [name, size, option] = call.parameters as [string, string, string | undefined];
    const volume = volumeName(name);
    const sizeLb = resizeLb(size);
    if (option !== undefined && option !== "zeroclear") throw new PeerError(`parseResizeParam:bad option:${option}`);
    const zeroClear = option === "zeroclear";
    const work = callCommand(call, guard, "resize", { volume, sizeLb, ...(zeroClear ? { zeroClear } : {}) });
    if (!zeroClear || (await isOverWithin(call, zeroClearWaitMs, work))) {
      await work;
      return ok;
    }
    work.catch((error: unknown) => call.log.warn("a resize failed", { volume, error }));
    return ok;
  },

  async restore(call) {
    const guard: Guard = { server: "c2aRestoreServer", states: activeStates };
    const { volume, gid } = volumeAndGid(call, guard);
    return startJob(call, guard, "restore", { volume, gid }, ({ code }) =>
      code === "already-exists"
        ? `c2aRestoreServer:already restored:${volume}:${gid}`
        : code === "not-restorable"
          ? `verifyRestorable:bad gid to restore:${volume}:${gid}`
          : undefined,
    );
  },

  "del-restored": (call) => deleteImage(call, "restored"),
  "del-cold": (call) => deleteImage(call, "cold"),
  "disable-snapshot": (call) => changeSnapshots(call, "disable-snapshot"),
  "enable-snapshot": (call) => changeSnapshots(call, "enable-snapshot"),

  async "gc-diff"(call) {
    const guard: Guard = { server: "c2aGcDiffServer", states: imageStates };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "gc-diff", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async "dbg-reload-metadata"(call) {
    const server = "c2aReloadMetadataServer";
    exactly(server, 1, call.parameters);
    await callCommand(call, anyState(server), "dbg-reload-metadata", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async "dbg-set-uuid"(call) {
    const server = "c2aSetUuidServer";
    exactly(server, 2, call.parameters);
    const [name, uuid] = call.parameters as [string, string];
    await callCommand(call, anyState(server), "dbg-set-uuid", { volume: volumeName(name), uuid: uuid.toLowerCase() });
    return ok;
  },

  async "dbg-set-state"(call) {
    const server = "c2aSetStateServer";
    exactly(server, 2, call.parameters);
    const [name, state] = call.parameters as [string, string];
    await callCommand(call, anyState(server), "dbg-set-state", { volume: volumeName(name), state });
    return ok;
  },

  async "dbg-set-base"(call) {
    const server = "c2aSetBaseServer";
    exactly(server, 2, call.parameters);
    const [name, base] = call.parameters as [string, string];
    await callCommand(call, anyState(server), "dbg-set-base", { volume: volumeName(name), base });
    return ok;
  },
};

/** Repairs are checked by ours alone: the original takes them in any state. */
function anyState(server: string): Guard {
  return { server, states: [...imageStates, "SyncReady", "Clear", "Broken"], isStopChecked: false };
}

function volumeAndGid({ parameters }: LegacyCall, { server }: Guard): { volume: string; gid: bigint } {
  exactly(server, 2, parameters);
  return { volume: volumeName(parameters[0]!), gid: parseU64(parameters[1]!, "gid") };
}

async function deleteImage(call: LegacyCall, kind: "restored" | "cold"): Promise<LegacyReply> {
  const guard: Guard = { server: "delSnapshot", states: imageStates };
  const { volume, gid } = volumeAndGid(call, guard);
  await callCommand(call, guard, `del-${kind}`, { volume, gid }, ({ code }) =>
    code === "not-found" ? `delSnapshot:volume not found:${volume}:${gid}:${kind}` : undefined,
  );
  return ok;
}

async function changeSnapshots(
  call: LegacyCall,
  command: "disable-snapshot" | "enable-snapshot",
): Promise<LegacyReply> {
  atLeast(2, call.parameters);
  const guard: Guard = { server: "changeSnapshot", states: activeStates };
  const volume = volumeName(call.parameters[0]!);
  const gids = call.parameters.slice(1).map((text) => parseU64(text, "gid"));
  await callCommand(call, guard, command, { volume, gids }, ({ code }) =>
    code === "not-found" || code === "bad-parameter"
      ? `changeSnapshot:change snapshot failed:${volume}:${command === "enable-snapshot" ? 1 : 0}`
      : undefined,
  );
  return ok;
}

/** Whether work is over, well or not, in so much time. */
async function isOverWithin({ clock }: LegacyCall, waitMs: number, work: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = clock.timer(waitMs, () => late.resolve(false));
  const over = (): true => true;
  try {
    return await Promise.race([work.then(over, over), late.promise]);
  } finally {
    timer.cancel();
  }
}
