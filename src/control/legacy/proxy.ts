/** @module The original's commands of a proxy. */
import { WalbError } from "../../errors.ts";
import { codecNames } from "../../native/codec.ts";
import { parseCompressOption } from "../../native/compress-option.ts";
import { parseArchiveName, parseHostPort, parseStopMode } from "../../wire/grammar.ts";
import { type ArchiveTarget, putArchiveTarget, takeArchiveTarget } from "../../wire/meta.ts";
import { PeerError } from "../../wire/words.ts";
import type { ArchiveEntry } from "../proxy.ts";
import { callCommand, type LegacyCall, type LegacyCommands, type LegacyReply, ok } from "./command.ts";
import { atLeast, exactly, type Guard, volumeName } from "./refusal.ts";
import { stopReply } from "./stop.ts";
import { resizeLb } from "./storage.ts";

/** States in which a proxy volume can be kicked. */
const sendingStates = ["Started", "WlogRecv", "WaitForEmpty"];

export const proxyLegacy: LegacyCommands = {
  async start(call) {
    exactly("c2pStartServer", 1, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    await callCommand(call, { server: "startProxyVol", states: ["Stopped"], prefix: "" }, "start", { volume });
    return ok;
  },

  async stop(call) {
    atLeast(1, call.parameters);
    const [name, mode] = call.parameters;
    return stopReply(call, { volume: volumeName(name!), mode: parseStopMode(mode) });
  },

  "archive-info": archiveInfo,

  async "clear-vol"(call) {
    const guard: Guard = { server: "c2pClearVolServer", states: ["Stopped"], via: "ClearVol" };
    exactly(guard.server, 1, call.parameters);
    await callCommand(call, guard, "clear", { volume: volumeName(call.parameters[0]!) });
    return ok;
  },

  async resize(call) {
    const guard: Guard = { server: "c2pResizeServer", states: ["Stopped"] };
    exactly(guard.server, 2, call.parameters);
    const volume = volumeName(call.parameters[0]!);
    await callCommand(call, guard, "resize", { volume, sizeLb: resizeLb(call.parameters[1]!) });
    return ok;
  },

  async kick(call) {
    const [name, archiveName] = call.parameters;
    const guard: Guard = { server: "c2pKickServer", states: sendingStates };
    if (name === undefined) {
      await callCommand(call, guard, "kick", {});
      return ok;
    }
    const volume = volumeName(name);
    const given = archiveName === undefined ? {} : { archiveName };
    await callCommand(call, guard, "kick", { volume, ...given }, ({ code }) =>
      code === "not-found" || code === "bad-parameter"
        ? `c2pKickServer:archive does not exist:${archiveName}`
        : undefined,
    );
    return ok;
  },
};

/**
 * ```
 * C> SV [add | update | get | delete | list, volume], str archiveName (not for list), ArchiveTarget (add, update)
 * S> "ok" | "ok", ArchiveTarget (get) | "ok", SV (list)
 * ```
 */
async function archiveInfo(call: LegacyCall): Promise<LegacyReply> {
  const { parameters, stream } = call;
  exactly("c2pArchiveInfoServer", 2, parameters);
  const [verb, name] = parameters as [string, string];
  const volume = volumeName(name);
  const guard: Guard = {
    server: "c2pArchiveInfoServer",
    states: ["Clear", "Stopped"],
    via: "AddArchiveInfo",
    prefix: "",
    isStopChecked: false,
  };
  if (verb === "list") {
    const names = (await entries(call, guard, volume)).map((entry) => entry.archiveName);
    return { kind: "ok", put: (encoder) => encoder.strings(names) };
  }
  if (verb !== "add" && verb !== "update" && verb !== "get" && verb !== "delete") {
    throw new PeerError(`c2pArchiveInfoServer:bad command:${verb}`);
  }
  const archiveName = await stream.readString("the archive's name", 1024);
  if (verb === "get") {
    const entry = (await entries(call, guard, volume)).find((one) => one.archiveName === archiveName);
    if (entry === undefined) throw new PeerError(`getArchiveInfo:archive info not exists:${archiveName}`);
    return { kind: "ok", put: (encoder) => putArchiveTarget(encoder, targetOf(entry)) };
  }
  if (verb === "delete") {
    const known = await entries(call, guard, volume);
    // Unknown names are deleted already, as long as the volume is in a state for it.
    if (known.some((entry) => entry.archiveName === archiveName)) {
      const deleting: Guard = { ...guard, states: ["Stopped"], via: "DeleteArchiveInfo" };
      // With its last archive the volume itself goes: controllers look for Clear then.
      if (known.length === 1) await callCommand(call, deleting, "clear", { volume });
      else await callCommand(call, deleting, "remove-archive", { volume, archiveName });
    }
    return ok;
  }
  const target = await stream.read("the archive's address", (decoder) => takeArchiveTarget(decoder));
  parseArchiveName(archiveName);
  if (verb === "add" && (await entries(call, guard, volume)).some((entry) => entry.archiveName === archiveName)) {
    throw new PeerError(
      `addArchiveInfo:archive info already exists:${archiveName}`,
      new WalbError("already-exists", {
        what: `the volume is sent to an archive ${archiveName} already`,
        where: { volume },
        hint: "change it with archive-info update",
      }),
    );
  }
  await callCommand(call, guard, "add-archive", { volume, archiveName, ...entryOf(target) });
  return ok;
}

/** Archives of a volume; none of one that is Clear. */
async function entries(call: LegacyCall, guard: Guard, volume: string): Promise<readonly ArchiveEntry[]> {
  if (call.role.situation(volume).state === "Clear") return [];
  const { archives } = (await callCommand(call, { ...guard, states: [] }, "list-archives", { volume })) as {
    readonly archives: readonly ArchiveEntry[];
  };
  return archives;
}

/** An archive as the original writes it. */
export function targetOf(entry: Omit<ArchiveEntry, "archiveName">): ArchiveTarget {
  const { codec, level } = parseCompressOption(entry.compression);
  const cpuCount = Number(entry.compression.split(":")[2] ?? 1);
  return { ...parseHostPort(entry.address), compress: { codec, level, cpuCount }, sendDelayS: entry.delayS };
}

/** An archive of the original as ours has it. */
export function entryOf({ host, port, compress, sendDelayS }: ArchiveTarget): Omit<ArchiveEntry, "archiveName"> {
  return {
    address: `${host.includes(":") ? `[${host}]` : host}:${port}`,
    compression: `${codecNames[compress.codec]}:${compress.level}:${compress.cpuCount}`,
    delayS: sendDelayS,
  };
}
