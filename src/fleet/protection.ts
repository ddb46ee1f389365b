/** @module Is a volume protected, and how far behind is what could be restored? Decided from what its servers say: pure. */
import type { ArchiveVolume } from "../control/archive-schemas.ts";
import type { ProxyVolume } from "../control/proxy.ts";
import type { StorageVolume } from "../control/storage.ts";
import type { ErrorCode } from "../errors.ts";
import { formatDuration, formatSize } from "./format.ts";

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
  /** The archive that backups go to. */
  readonly primary: Heard<ArchiveVolume> | undefined;
  /** Archives that get the volume by replication. */
  readonly replicas: readonly Heard<ArchiveVolume>[];
}

/** Data that has not passed a hop yet, and how long it has been waiting. */
export interface Lag {
  readonly bytes: number;
  readonly ms: number;
}

/** Where the data of a volume is. What no server told is missing. */
export interface PathMeasure {
  readonly newest?: { readonly gid: bigint; readonly timeMs: number };
  /** Of the newest point. */
  readonly ageMs?: number;
  /** From the oldest point to the newest. */
  readonly windowMs?: number;
  /** Storage to proxies. */
  readonly toProxy?: Lag;
  /** Proxies to archives. */
  readonly toArchive?: Lag;
  /** Share of the log that is in use, above 1 when it has overflowed. */
  readonly logUsage?: number;
}

/** How old the newest point may be while writes wait. */
export interface AgeLimits {
  readonly warningMs: number;
  readonly criticalMs: number;
}

/** The verdict. */
export interface Protection {
  readonly isProtected: boolean;
  /** Why it is not protected; empty when it is. */
  readonly reasons: string[];
  /** What is going wrong while it is protected still, or besides. */
  readonly warnings: string[];
  /** True when the age of the newest point is the only reason. */
  readonly isOnlyLate: boolean;
}

/** States in which new writes are shipped, or are going to be once the backup under way is done. */
const following = ["Target", "FullSync", "HashSync"];
/** States in which an archive takes what is sent. */
const receiving = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer", "FullSync"];
/** Troubles that no retry ends. */
const lasting: readonly string[] = [
  "different-uuid",
  "log-overflow",
  "damaged",
  "bad-format",
  "unreadable",
  "read-only",
  "wrong-key",
] satisfies readonly ErrorCode[];
/** An archive may refuse a diff while another proxy still brings the one before it; not for longer than this. */
const gapMsMax = 60_000;
/** What it refuses it with, see `docs/protocol.md`. */
const gapWord = "too-new-diff";
/** A log that is so full deserves a warning. */
const logUsageMax = 0.8;

/**
 * Judges: what is written now reaches the archive, there is a point to restore, and it is not too old while writes wait.
 * An idle volume may have an old newest point: nothing has been written since.
 */
export function judgeProtection(path: VolumePath, limits: AgeLimits, nowMs: number): Protection {
  const found: Findings = { reasons: [], warnings: [] };
  judgeStorage(path, found);
  judgeProxies(path, found);
  judgeArchives(path, found);
  const measure = measurePath(path, nowMs);
  const isOnlyLate = judgeAge(measure, limits, found) && found.reasons.length === 1;
  return { isProtected: found.reasons.length === 0, ...found, isOnlyLate };
}

/** Collects the numbers of a path. */
export function measurePath(path: VolumePath, nowMs: number): PathMeasure {
  const storage = path.storage?.status;
  const { newestPoint: newest, oldestPoint: oldest } = path.primary?.status ?? {};
  const entries = path.proxies.flatMap(({ status }) => status?.archives ?? []);
  const { lagBytes, lagMs = 0, logUsagePb, logCapacityPb = 0 } = storage ?? {};
  return {
    ...(newest === undefined ? {} : { newest, ageMs: Math.max(0, nowMs - newest.timeMs) }),
    ...(newest === undefined || oldest === undefined ? {} : { windowMs: Math.max(0, newest.timeMs - oldest.timeMs) }),
    ...(lagBytes === undefined ? {} : { toProxy: { bytes: lagBytes, ms: lagMs } }),
    ...(entries.length === 0
      ? {}
      : {
          toArchive: {
            bytes: entries.reduce((sum, entry) => sum + entry.pendingBytes, 0),
            ms: Math.max(...entries.map((entry) => (entry.pendingCount === 0 ? 0 : (entry.lagMs ?? 0)))),
          },
        }),
    ...(logUsagePb === undefined || logCapacityPb === 0 ? {} : { logUsage: logUsagePb / logCapacityPb }),
  };
}

interface Findings {
  readonly reasons: string[];
  readonly warnings: string[];
}

function judgeStorage({ volume, storage }: VolumePath, { reasons, warnings }: Findings): void {
  if (storage === undefined) {
    reasons.push("no storage server has it");
    return;
  }
  const { server, status, error } = storage;
  const say = (text: string): string => `storage ${server}: ${text}`;
  if (status === undefined) {
    reasons.push(say(error ?? `does not know it; put it under backup: walb init ${volume} --device NAME`));
    return;
  }
  const { state, isOverflow, trouble } = status;
  if (isOverflow === true) {
    const again = backupAnew(volume, storage);
    reasons.push(say(`the log has overflowed, writes are missing; back it up anew: ${again}`));
  } else if (!following.includes(state)) {
    const wayOut: Readonly<Record<string, string>> = {
      Stopped: `; start it: walb start ${volume}`,
      SyncReady: `; back it up: walb backup ${volume}`,
    };
    const why = trouble === undefined ? (wayOut[state] ?? "") : `: ${told(state, trouble)}`;
    reasons.push(say(`state ${state}, writes are not shipped${why}`));
  } else if (status.stopState !== "not-stopping") {
    reasons.push(say("it is being stopped"));
  } else if (trouble !== undefined) {
    (lasting.includes(trouble.code) ? reasons : warnings).push(say(trouble.message));
  }
  const usage = measurePath({ volume, storage, proxies: [], primary: undefined, replicas: [] }, 0).logUsage ?? 0;
  if (isOverflow !== true && usage >= logUsageMax) {
    warnings.push(
      say(`the log is ${Math.min(100, Math.floor(usage * 100))}% full; when it overflows a new backup is needed`),
    );
  }
}

/** What the servers of a path say themselves that is wrong, where not enough of them were asked for a verdict. */
export function troublesOf({ storage, proxies, primary, replicas }: VolumePath): string[] {
  const heard = [
    ...[storage].map((one) => ["storage", one] as const),
    ...proxies.map((one) => ["proxy", one] as const),
    ...[primary, ...replicas].map((one) => ["archive", one] as const),
  ];
  return heard.flatMap(([role, one]) => {
    if (one?.status?.trouble === undefined) return [];
    const { state, trouble } = one.status;
    return [`${role} ${one.server}: ${state === "Broken" ? "state Broken: " : ""}${told(state, trouble)}`];
  });
}

/** What is wrong; of damage and of a volume that cannot be opened also the way out, which only its server knows. */
function told(
  state: string,
  { code, message, hint }: { readonly code: string; readonly message: string; readonly hint?: string | undefined },
) {
  return (state === "Broken" || code === "damaged") && hint !== undefined ? `${message}; ${hint}` : message;
}

/** The commands of a new backup that keeps what the archive has, from the state the storage is in. */
function backupAnew(volume: string, storage: Heard<StorageVolume> | undefined): string {
  const state = storage?.status?.state;
  const at = storage === undefined ? "" : ` --server ${storage.server}`;
  const stop = state === "Stopped" || state === "SyncReady" ? "" : `walb stop ${volume}${at}; `;
  const reset = state === "SyncReady" ? "" : `walb reset ${volume}${at}; `;
  return `${stop}${reset}walb backup ${volume}`;
}

function judgeProxies(path: VolumePath, { reasons, warnings }: Findings): void {
  const { volume, proxies, primary } = path;
  const isWorking = ({ status }: Heard<ProxyVolume>): boolean =>
    status !== undefined && isTaking(status) && status.archives.length > 0;
  const isAnyWorking = proxies.some(isWorking);
  if (proxies.length === 0) reasons.push("no proxy has it");
  // While one works, the others are spare: what is wrong with them is a warning.
  const findings = isAnyWorking ? warnings : reasons;
  for (const proxy of proxies) {
    const say = (text: string): string => `proxy ${proxy.server}: ${text}`;
    const { status, error } = proxy;
    if (status === undefined) {
      findings.push(say(error ?? `does not know it; make it known: walb init ${volume} --device NAME`));
      continue;
    }
    if (status.state === "Broken" && status.trouble !== undefined) {
      findings.push(say(`state Broken, it takes nothing: ${told(status.state, status.trouble)}`));
      continue;
    }
    if (!isTaking(status)) {
      const start = status.state === "Stopped" ? `; start it: walb start ${volume} --server ${proxy.server}` : "";
      findings.push(say(`state ${status.state}, it takes nothing${start}`));
    } else if (status.archives.length === 0) {
      findings.push(say("it sends the volume to no archive"));
    }
    if (status.trouble !== undefined) warnings.push(say(status.trouble.message));
    for (const entry of status.archives) {
      const { archiveName, trouble, pendingBytes } = entry;
      if (trouble === undefined) continue;
      const isPrimary = archiveName === primary?.server;
      if (isPrimary && isGap(path, entry)) {
        const text = `diffs are missing before the ${formatSize(pendingBytes)} that wait for archive ${archiveName}`;
        reasons.push(say(`${text}; back it up anew: ${backupAnew(volume, path.storage)}`));
        continue;
      }
      const text = `${formatSize(pendingBytes)} wait for archive ${archiveName}: ${trouble.message}`;
      (isPrimary && lasting.includes(trouble.code) ? reasons : warnings).push(say(text));
    }
  }
}

type ArchiveEntry = ProxyVolume["archives"][number];

/**
 * True when an archive refuses what waits because something before it is missing, and nobody is going to bring it: it
 * has been so for a while, or no proxy has a diff that begins where the archive is.
 */
function isGap({ proxies, primary }: VolumePath, { archiveName, trouble, lagMs = 0, delayS }: ArchiveEntry): boolean {
  if (trouble?.message.includes(gapWord) !== true) return false;
  if (lagMs > delayS * 1000 + gapMsMax) return true;
  const newestGid = primary?.status?.newestPoint?.gid;
  if (newestGid === undefined) return false;
  return proxies.every(({ status }) => {
    const oldestGid = status?.archives.find((entry) => entry.archiveName === archiveName)?.oldestGid;
    // What was delivered between the questions to proxy and archive looks like a gap: only one that waits is sure.
    return oldestGid !== undefined && oldestGid > newestGid;
  });
}

function isTaking({ state, stopState }: ProxyVolume): boolean {
  return (state === "Started" || state === "WlogRecv") && stopState === "not-stopping";
}

function judgeArchives({ volume, primary, replicas }: VolumePath, { reasons, warnings }: Findings): void {
  if (primary === undefined) reasons.push("no archive has it");
  else {
    const wrong = archiveFault(volume, primary, `walb backup ${volume}`);
    if (wrong !== undefined) reasons.push(`archive ${primary.server}: ${wrong}`);
    else if (primary.status?.newestPoint === undefined) {
      reasons.push(`archive ${primary.server}: there is no restorable point yet`);
    }
  }
  for (const replica of replicas) {
    const wrong = archiveFault(volume, replica, `walb replicate ${volume} --to ${replica.server}`);
    if (wrong !== undefined) warnings.push(`archive ${replica.server}: ${wrong}`);
  }
  for (const { server, status } of [...(primary === undefined ? [] : [primary]), ...replicas]) {
    if (status?.trouble === undefined || !receiving.includes(status.state)) continue;
    const isLasting = server === primary?.server && lasting.includes(status.trouble.code);
    (isLasting ? reasons : warnings).push(`archive ${server}: ${told(status.state, status.trouble)}`);
  }
}

/** Why an archive takes nothing. @param fill the command that gives it a first backup. */
function archiveFault(
  volume: string,
  { server, status, error }: Heard<ArchiveVolume>,
  fill: string,
): string | undefined {
  if (status === undefined) return error ?? `does not know it; is its disk mounted? If it is new there: ${fill}`;
  if (receiving.includes(status.state)) return undefined;
  if (status.trouble !== undefined) return `state ${status.state}: ${told(status.state, status.trouble)}`;
  if (status.state === "Stopped") return `state Stopped; start it: walb start ${volume} --server ${server}`;
  if (status.state === "SyncReady") return `state SyncReady, it has no backup; make one: ${fill}`;
  return `state ${status.state}`;
}

/** True when the newest point is too old. */
function judgeAge(measure: PathMeasure, limits: AgeLimits, { reasons, warnings }: Findings): boolean {
  const { ageMs, toProxy, toArchive } = measure;
  const waitingBytes = (toProxy?.bytes ?? 0) + (toArchive?.bytes ?? 0);
  // A snapshot that ends a backup makes that restorable, also where nothing was written since.
  const isSnapshotWaiting = (toProxy?.ms ?? 0) >= limits.warningMs;
  if (ageMs === undefined || (waitingBytes === 0 && !isSnapshotWaiting) || ageMs < limits.warningMs) return false;
  const isLate = ageMs >= limits.criticalMs;
  const what = waitingBytes === 0 ? "a snapshot waits" : `${formatSize(waitingBytes)} of writes wait`;
  const text = `the newest point is ${formatDuration(ageMs)} old while ${what}`;
  (isLate ? reasons : warnings).push(text);
  return isLate;
}
