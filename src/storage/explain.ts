/** @module Why a volume of a storage does not move, and how it goes on, in words. Pure. */
import type { Waiting } from "../control/schemas.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { StorageState } from "./volume.ts";

/**
 * Why a follower rests: `growth` for new log, `checkpoint` for the device so that delivered log can be erased, `flush`
 * until the log is durable, `pace` so that small writes go together, `place` for transfers of other volumes, `retry`
 * after a failure.
 */
export type RestReason = "growth" | "checkpoint" | "flush" | "pace" | "place" | "retry";

/** What a follower waits for, and since when (wall clock). */
export interface FollowRest {
  readonly reason: RestReason;
  readonly sinceMs: number;
}

/** What is known of a volume. */
export interface StorageSituation {
  readonly volume: string;
  readonly nodeId: string;
  readonly state: StorageState;
  readonly sinceMs: number;
  /** An action or a backup is under way. */
  readonly isRunning: boolean;
  /** All that is under way is that a proxy was asked to take log. */
  readonly asking: { readonly host: string; readonly sinceMs: number } | undefined;
  readonly isStopping: boolean;
  readonly hasBackup: boolean;
  readonly trouble: Trouble | undefined;
  readonly rest: FollowRest | undefined;
}

const commands = {
  backup: (volume: string): string => `nothing by itself; back it up: walb backup ${volume}`,
  start: (volume: string): string => `nothing by itself; start it: walb start ${volume}`,
};

/** Explains; undefined while something moves. */
export function explainStorage(situation: StorageSituation): Waiting | undefined {
  const { volume, nodeId: host, state, sinceMs, isRunning, isStopping, trouble, asking } = situation;
  if (asking !== undefined && isRunning) return explainAsking(asking, trouble);
  if (isRunning) return undefined;
  if (isStopping) return { step: "stop", host, sinceMs, why: "it is being stopped", next: "it stops by itself" };
  switch (state) {
    case "Target":
      return explainTarget(situation);
    case "Standby":
      return trouble === undefined ? explainRest(situation) : explainTrouble(situation, trouble);
    case "SyncReady": {
      const why = situation.hasBackup ? "its log is not followed" : "it has never been backed up";
      const step = "backup";
      return { step, host, sinceMs, why: trouble?.error.message ?? why, next: commands.backup(volume) };
    }
    case "Stopped":
      return {
        step: "log transfer",
        host,
        sinceMs,
        why: trouble?.error.message ?? "it was stopped",
        next: trouble?.error.hint === undefined ? commands.start(volume) : `nothing by itself; ${trouble.error.hint}`,
      };
    default:
      // A transition that is not counted as work: over in a moment.
      return { step: state, host, sinceMs, why: `it is in ${state}`, next: "it goes on by itself" };
  }
}

function explainTarget(situation: StorageSituation): Waiting {
  return situation.trouble === undefined ? explainRest(situation) : explainTrouble(situation, situation.trouble);
}

function explainTrouble({ volume, nodeId }: StorageSituation, { error, sinceMs, atMs, retryAtMs }: Trouble): Waiting {
  const again = `it is tried again, at once with: walb kick ${volume}`;
  return {
    step: error.where.step ?? "log transfer",
    host: error.where.peer ?? nodeId,
    sinceMs: sinceMs ?? atMs,
    why: error.message,
    next: error.hint === undefined ? again : `${again}; ${error.hint}`,
    ...(retryAtMs === undefined ? {} : { nextMs: retryAtMs }),
  };
}

/** Which failed before, if it did. */
function explainAsking({ host, sinceMs }: { host: string; sinceMs: number }, trouble: Trouble | undefined): Waiting {
  const step = "asking a proxy to take log";
  if (trouble === undefined) {
    const next = "without an answer the next proxy is asked, then it is tried again";
    return { step, host, sinceMs, why: "it has not answered yet", next };
  }
  const { error, atMs } = trouble;
  const hint = error.hint === undefined ? "" : `; ${error.hint}`;
  const why = error.message;
  return { step, host, sinceMs: trouble.sinceMs ?? atMs, why, next: `it is being tried again now${hint}` };
}

const rests: Readonly<Record<RestReason, { readonly step: string; readonly why: string; readonly next: string }>> = {
  growth: {
    step: "log transfer",
    why: "all that was written is delivered",
    next: "what is written next is sent within about a second",
  },
  checkpoint: {
    step: "freeing the log",
    why: "all is delivered; the device has not written all of it to its data store yet",
    next: "it is looked at again every second, and the log freed",
  },
  flush: {
    step: "log flush",
    why: "the device has not made its log durable yet",
    next: "the log is sent as soon as it is durable",
  },
  pace: {
    step: "log transfer",
    why: "small amounts of log are collected for up to a second",
    next: "they are sent within a second",
  },
  place: {
    step: "log transfer",
    why: "as many transfers of other volumes are under way as the storage may run at once",
    next: "it is sent in its turn; more at once with --max-background-tasks",
  },
  retry: { step: "log transfer", why: "it failed", next: "it is tried again" },
};

function explainRest({ nodeId: host, rest, sinceMs, state }: StorageSituation): Waiting {
  const known = rests[rest?.reason ?? "growth"];
  const since = rest?.sinceMs ?? sinceMs;
  if (state === "Standby" && (rest === undefined || rest.reason === "growth")) {
    const why = "it is a standby: its log is empty";
    return { step: "freeing the log", host, sinceMs: since, why, next: "what is written next is freed, never sent" };
  }
  return { ...known, host, sinceMs: since };
}
