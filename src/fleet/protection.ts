/** @module Is a volume protected? Decided from what the servers of its path say: pure. */
import type { ArchiveVolume } from "../control/archive.ts";
import type { ProxyVolume } from "../control/proxy.ts";
import type { StorageVolume } from "../control/storage.ts";

/** What a server said, or why it said nothing. */
export interface Heard<Status> {
  readonly server: string;
  readonly status?: Status;
  readonly error?: string;
}

/** What is known of one volume along its path. */
export interface VolumePath {
  readonly volume: string;
  readonly storage: Heard<StorageVolume> | undefined;
  readonly proxies: readonly Heard<ProxyVolume>[];
  readonly archives: readonly Heard<ArchiveVolume>[];
}

/** The verdict. */
export interface Protection {
  readonly isProtected: boolean;
  /** Why not; also what is going wrong while the volume is still protected. */
  readonly reasons: string[];
}

const following = ["Target", "FullSync", "HashSync"];
const receiving = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer", "FullSync"];

/** Judges: new writes are being shipped, and there is a point to restore. */
export function judgeProtection(path: VolumePath): Protection {
  const reasons: string[] = [];
  const notes: string[] = [];
  judgeStorage(path, reasons, notes);
  judgeProxies(path, reasons, notes);
  judgeArchives(path, reasons, notes);
  return { isProtected: reasons.length === 0, reasons: [...reasons, ...notes] };
}

function judgeStorage({ storage }: VolumePath, reasons: string[], notes: string[]): void {
  if (storage === undefined) {
    reasons.push("no storage server has it");
    return;
  }
  const { server, status, error } = storage;
  if (status === undefined) {
    reasons.push(`storage ${server}: ${error ?? "does not know it"}`);
    return;
  }
  if (status.isOverflow === true) {
    reasons.push(`storage ${server}: the log has overflowed; reset the volume and back it up again`);
  } else if (!following.includes(status.state)) {
    reasons.push(`storage ${server}: state ${status.state}, writes are not shipped`);
  }
  if (status.trouble !== undefined) notes.push(`storage ${server}: ${status.trouble.message}`);
}

function judgeProxies({ proxies }: VolumePath, reasons: string[], notes: string[]): void {
  const working = proxies.filter(({ status }) => status?.state === "Started" || status?.state === "WlogRecv");
  if (working.length === 0) reasons.push(proxies.length === 0 ? "no proxy has it" : "no proxy is started");
  for (const { server, status, error } of proxies) {
    if (status === undefined) notes.push(`proxy ${server}: ${error ?? "does not know it"}`);
    if (status?.trouble !== undefined) notes.push(`proxy ${server}: ${status.trouble.message}`);
    for (const archive of status?.archives ?? []) {
      if (archive.trouble !== undefined)
        notes.push(`proxy ${server} to ${archive.archiveName}: ${archive.trouble.message}`);
    }
  }
}

function judgeArchives({ archives }: VolumePath, reasons: string[], notes: string[]): void {
  const good = archives.filter(({ status }) => status !== undefined && receiving.includes(status.state));
  if (archives.length === 0) reasons.push("no archive has it");
  else if (good.length === 0) {
    for (const { server, status, error } of archives) {
      reasons.push(
        `archive ${server}: ${status === undefined ? (error ?? "does not know it") : `state ${status.state}`}`,
      );
    }
  } else if (!good.some(({ status }) => status?.newestPoint !== undefined)) {
    reasons.push("there is no restorable point yet");
  }
  for (const { server, status } of archives) {
    if (status?.trouble !== undefined) notes.push(`archive ${server}: ${status.trouble.message}`);
  }
}
