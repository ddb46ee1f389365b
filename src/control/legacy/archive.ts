/** @module The original's commands of an archive. */
import { mib } from "../../units.ts";
import { parseNumber, parseStopMode, parseU64 } from "../../wire/grammar.ts";
import { PeerError } from "../../wire/words.ts";
import { callCommand, type LegacyCommands, ok, startJob } from "./command.ts";
import { atLeast, exactly, type Guard, volumeName } from "./refusal.ts";
import { stopReply } from "./stop.ts";
import { resizeLb } from "./storage.ts";

const activeStates = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"];

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
    exactly(guard.server, 2, call.parameters);
    const [volume, gid] = [volumeName(call.parameters[0]!), parseU64(call.parameters[1]!, "gid")];
    return startJob(call, guard, "apply", { volume, gid }, ({ code }) =>
      code === "state" ? `verifyApplicable:gid not applicable:${volume}:${gid}` : undefined,
    );
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

  async resize(call) {
    const guard: Guard = {
      server: "c2aResizeServer",
      states: [...activeStates, "Stopped", "SyncReady"],
    };
    atLeast(2, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    const sizeLb = resizeLb(call.parameters[1]!);
    await callCommand(call, guard, "resize", { volume, sizeLb });
    return ok;
  },
};
