/** @module Labels and protections that go along with a replication. */
import { WalbError } from "../../errors.ts";
import { parseHostPort } from "../../wire/grammar.ts";
import type { ConnectOptions } from "../../wire/handshake.ts";
import { connectWire } from "../../wire/handshake.ts";
import {
  type LabelMessage,
  labelsMax,
  labelsProtocol,
  runLabels,
  serveLabels,
  type WireLabel,
} from "../../wire/labels.ts";
import type { WireStream } from "../../wire/stream.ts";
import { accept, type Decision, refuse } from "../../wire/words.ts";
import type { Label } from "../label-rows.ts";
import { type ArchiveVolume, activeStates } from "../volume.ts";
import type { ArchiveVolumes } from "../volumes.ts";

/** Serves the receiving end. */
export function serveReplicaLabels(volumes: ArchiveVolumes, stream: WireStream): Promise<void> {
  return serveLabels(stream, async (message) => {
    try {
      return await takeLabels(volumes.get(message.volume), message);
    } catch (error) {
      return refuse(error);
    }
  });
}

async function takeLabels(volume: ArchiveVolume, message: LabelMessage): Promise<Decision> {
  const { machine, store, name, settings } = volume;
  machine.require([...activeStates, "Resync"], "take labels");
  if (store.archiveUuid !== message.archiveUuid) {
    throw new WalbError("different-uuid", {
      what: `archive ${settings.nodeId} has other backups of ${name} now`,
      hint: "replicate again",
    });
  }
  const changed = mergeLabels(store.labels, message.labels, volume.requireBase().from.gidB);
  if (changed.length > 0) {
    store.setLabels(changed);
    await volume.saveManifest();
  }
  return accept;
}

/**
 * What changes when labels of the sender come to a volume: its texts win, it protects and never unprotects, and what it
 * does not name stays. Pure.
 * @param baseGid points before it are gone.
 */
export function mergeLabels(
  known: ReadonlyMap<bigint, Label>,
  sent: readonly WireLabel[],
  baseGid: bigint,
): readonly Label[] {
  const changed: Label[] = [];
  let room = labelsMax - known.size;
  for (const { gid, label, isProtected } of sent) {
    const before = known.get(gid);
    if (gid < baseGid || gid > BigInt(Number.MAX_SAFE_INTEGER) || (before === undefined && room <= 0)) continue;
    const after = {
      gid,
      label: label ?? before?.label,
      isProtected: isProtected || before?.isProtected === true,
    };
    if (before?.label === after.label && before?.isProtected === after.isProtected) continue;
    if (before === undefined) room -= 1;
    changed.push(after);
  }
  return changed;
}

/** Tells another archive the labels of a volume. An archive that does not know of labels does without. */
export async function sendLabels(
  volume: ArchiveVolume,
  to: string,
  options: Omit<ConnectOptions, "protocol">,
  signal: AbortSignal,
): Promise<"taken" | "refused" | "unknown"> {
  const { store, platform, name } = volume;
  let stream: WireStream;
  try {
    const address = { kind: "tcp", ...parseHostPort(to) } as const;
    ({ stream } = await connectWire(platform.net, address, { ...options, protocol: labelsProtocol }));
  } catch (error) {
    if (error instanceof WalbError && error.code === "unsupported") return "unknown";
    throw error;
  }
  const abort = (): void => stream.close();
  signal.addEventListener("abort", abort);
  try {
    const labels = [...store.labels.values()].slice(0, labelsMax);
    const answer = await runLabels(stream, { volume: name, archiveUuid: store.archiveUuid!, labels });
    if (answer.kind === "accept") return "taken";
    volume.log.warn("labels were not taken", { to, answer });
    return "refused";
  } finally {
    signal.removeEventListener("abort", abort);
    stream.close();
  }
}
