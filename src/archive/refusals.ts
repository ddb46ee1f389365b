/** @module Refusals of backups, diffs and replications: the original's words for a wrong state first, then ours. */
import { type Guard, guardText, type Situation } from "../control/legacy/refusal.ts";
import { asWalbError } from "../errors.ts";
import { PeerError, type Refusal, refuse } from "../wire/words.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** Names of the original's functions, and the states they need; a refused diff gets words where there is one. */
export const transferGuards = {
  fullSync: { server: "backupServer", states: ["SyncReady"] },
  hashSync: { server: "backupServer", states: ["Archived"] },
  diff: { server: "p2aWdiffTransferServer", states: ["Archived"] },
  replication: { server: "a2aReplSyncServer", states: ["SyncReady", "Archived"] },
} as const satisfies Record<string, Guard>;

/** Where a volume is; `Clear` when there is none of that name. */
export function situationOf(volumes: ArchiveVolumes, name: string): Situation {
  const machine = volumes.find(name)?.machine;
  if (machine !== undefined) return machine;
  const isBroken = volumes.broken.some((broken) => broken.volume === name);
  return { state: isBroken ? "Broken" : "Clear", stopState: "not-stopping", isInTransition: false };
}

/** What a peer is told that asked for a transfer. */
export function refuseTransfer(volumes: ArchiveVolumes, guard: Guard, name: string, error: unknown): Refusal {
  const failure = asWalbError(error);
  const isOfState = ["state", "busy", "not-found"].includes(failure.code);
  const text = isOfState ? guardText(guard, name, situationOf(volumes, name)) : undefined;
  return refuse(text === undefined ? failure : new PeerError(text, failure));
}
