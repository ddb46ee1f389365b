/** @module The original's commands of a storage. */
import { asWalbError, WalbError } from "../../errors.ts";
import { kib, lbBytes } from "../../units.ts";
import { parseBulkLb, parseNumber, parseSizeBytes, parseStopMode, parseU64 } from "../../wire/grammar.ts";
import { PeerError } from "../../wire/words.ts";
import { callCommand, type LegacyCall, type LegacyCommands, type LegacyReply, ok, startJob } from "./command.ts";
import { atLeast, exactly, type Guard, volumeName } from "./refusal.ts";
import type { StopRequest } from "./stop.ts";
import { stopReply } from "./stop.ts";

const steadyStates = ["SyncReady", "Stopped", "Target", "Standby"];
/** Bulks of ours begin where direct I/O can read; the size is free otherwise, so smaller ones are rounded up. */
const bulkUnitBytes = 4 * kib;

/** A device that is not there; or there is no daemon, or no driver, to have it. */
const absentCodes: readonly string[] = ["not-found", "unreachable", "unsupported"];

export const storageLegacy: LegacyCommands = {
  async "init-vol"(call) {
    const guard: Guard = { server: "c2sInitVolServer", states: ["Clear"], via: "InitVol" };
    exactly(guard.server, 2, call.parameters);
    const [volume, path] = [volumeName(call.parameters[0]!), call.parameters[1]!];
    const notFound = `StorageVolInfo:not found:${path}`;
    const name = /^\/dev\/walb\/([^/]{1,25})$/.exec(path)?.[1];
    if (name === undefined) {
      const error = new WalbError("not-found", {
        what: `${path} is no walb device`,
        where: { volume },
        hint: "name one as /dev/walb/NAME",
      });
      throw new PeerError(notFound, error);
    }
    const init = (kind: "kernel" | "user"): Promise<unknown> =>
      callCommand(call, guard, "init", { volume, device: { kind, name } }, ({ code }) =>
        absentCodes.includes(code) ? notFound : undefined,
      );
    try {
      await init("kernel");
    } catch (error) {
      // The driver has no such device: then it is one of the device daemon.
      if (!absentCodes.includes(asWalbError(error).code)) throw error;
      await init("user");
    }
    return ok;
  },

  async "clear-vol"(call) {
    const guard: Guard = {
      server: "c2sClearVolServer",
      states: ["SyncReady"],
      via: "ClearVol",
      isStopChecked: false,
    };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "clear", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async "reset-vol"(call) {
    atLeast(1, call.parameters);
    const guard: Guard = { server: "c2sResetVolServer", states: ["Stopped"], via: "Reset", prefix: "" };
    const [name, gid] = call.parameters;
    // Without a gid ours goes on behind the last one given out: gids of the archive are never used twice.
    const given = gid === undefined ? {} : { gid: parseU64(gid, "gid") };
    await callCommand(call, guard, "reset", { volume: volumeName(name!), ...given });
    return ok;
  },

  async start(call) {
    exactly("c2sStartServer", 2, call.parameters);
    const [name, mode] = call.parameters as [string, string];
    const volume = volumeName(name);
    if (mode !== "target" && mode !== "standby") {
      throw new PeerError(`c2sStartServer:start vol bad mode:${mode}`);
    }
    const guard: Guard =
      mode === "target"
        ? { server: "c2sStartServer", states: ["Stopped"], via: "StartTarget" }
        : { server: "c2sStartServer", states: ["SyncReady"], via: "StartStandby" };
    await callCommand(call, guard, "start", { volume, mode }, ({ code }) =>
      code === "log-overflow" ? `c2sStartServer:overflow:${volume}:${devicePathOf(call, volume)}` : undefined,
    );
    return ok;
  },

  async stop(call) {
    return stopReply(call, parseStop(call.parameters));
  },

  "full-bkp": (call) => backup(call, "full"),
  "hash-bkp": (call) => backup(call, "hash"),

  async snapshot(call) {
    const guard: Guard = { server: "c2sSnapshotServer", states: ["Target", "Stopped"] };
    exactly(guard.server, 1, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    const { gid } = (await callCommand(call, guard, "snapshot", { volume }, ({ code }) =>
      code === "log-overflow" ? `takeSnapshotDetail:wlog overflow:${devicePathOf(call, volume)}` : undefined,
    )) as { readonly gid: bigint };
    return { kind: "ok", put: (encoder) => encoder.u64(gid) };
  },

  async resize(call) {
    const guard: Guard = { server: "c2sResizeServer", states: steadyStates };
    atLeast(2, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    const sizeLb = resizeLb(call.parameters[1]!);
    await callCommand(call, guard, "resize", { volume, sizeLb }, ({ code, what }) =>
      code !== "out-of-range"
        ? undefined
        : what.includes("shrink")
          ? `growWdev:shrink is not supported:${/has (\d+) blocks/.exec(what)?.[1] ?? 0}:${sizeLb}`
          : "setValueByIoctl:ioctl error:Bad address(14)",
    );
    return ok;
  },

  async "set-full-scan-bps"(call) {
    const server = "c2sSetFullScanBpsServer";
    atLeast(1, call.parameters);
    const bytesPerS = parseSizeBytes(call.parameters[0]!, "maxFullScanBps");
    await callCommand(call, { server, states: [] }, "set-scan-rate", { bytesPerS });
    return ok;
  },

  async "dbg-dump-logpack-header"(call) {
    const server = "c2sDumpLogpackHeaderServer";
    atLeast(2, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    const lsid = parseNumber(call.parameters[1]!, "lsid");
    await callCommand(
      call,
      { server, states: [...steadyStates, "Clear"] },
      "dump-log-header",
      { volume, lsid },
      ({ code }) => (code === "not-found" ? `${server}:not found:${volume}` : undefined),
    );
    return ok;
  },

  async kick(call) {
    await callCommand(call, { server: "c2sKickServer", states: [] }, "kick", {});
    return ok;
  },
};

function devicePathOf({ role }: LegacyCall, volume: string): string {
  return role.devicePath?.(volume) ?? "";
}

/** Size of `resize`, as every role reads it. */
export function resizeLb(text: string): number {
  const sizeLb = Math.floor(parseSizeBytes(text, "size") / lbBytes);
  if (sizeLb === 0) throw new PeerError("parseResizeParam:size param must not be 0");
  return sizeLb;
}

function parseStop(parameters: readonly string[]): StopRequest {
  atLeast(1, parameters);
  const volume = volumeName(parameters[0]!);
  const mode = parseStopMode(parameters[1]);
  if (mode === "empty") throw new PeerError("parseStopParam:stop empty is not allowed.");
  return { volume, mode };
}

async function backup(call: LegacyCall, mode: "full" | "hash"): Promise<LegacyReply> {
  atLeast(1, call.parameters);
  const [name, bulk] = call.parameters;
  const via = mode === "full" ? "FullSync" : "HashSync";
  const guard: Guard = { server: "backupClient", states: ["SyncReady"], via };
  const bulkBytes = bulk === undefined ? undefined : parseBulkLb(bulk) * lbBytes;
  return startJob(
    call,
    guard,
    "backup",
    {
      volume: volumeName(name!),
      mode,
      ...(bulkBytes === undefined ? {} : { bulkBytes: Math.ceil(bulkBytes / bulkUnitBytes) * bulkUnitBytes }),
    },
    ({ code, what }) => (code === "state" ? `backupClient:not accepted by archive:${what}` : undefined),
  );
}
