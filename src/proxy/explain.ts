/** @module Why a volume of a proxy, or its way to one archive, does not move, and how it goes on, in words. Pure. */
import type { Waiting } from "../control/schemas.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { ProxyState } from "./volume.ts";

/** What is known of a volume. */
export interface ProxySituation {
  readonly volume: string;
  readonly nodeId: string;
  readonly state: ProxyState;
  readonly sinceMs: number;
  readonly isStopping: boolean;
  readonly trouble: Trouble | undefined;
  readonly lastReceivedMs: number | undefined;
  /** Archives that something waits for. */
  readonly waitsFor: readonly string[];
}

/** Explains why nothing is received; undefined while something is. */
export function explainProxy(situation: ProxySituation): Waiting | undefined {
  const { volume, nodeId: host, state, sinceMs, trouble, waitsFor } = situation;
  const at = `${volume} --server ${host}`;
  switch (state) {
    case "WlogRecv":
      return undefined;
    case "Started": {
      if (situation.isStopping)
        return { step: "stop", host, sinceMs, why: "it is being stopped", next: "it stops soon" };
      if (trouble !== undefined) {
        const next = `the storage sends again by itself; ${trouble.error.hint ?? `see walb status ${volume}`}`;
        const step = trouble.error.where.step ?? "receiving a log";
        return { step, host, sinceMs: trouble.sinceMs ?? trouble.atMs, why: trouble.error.message, next };
      }
      const since = situation.lastReceivedMs ?? sinceMs;
      return {
        step: "receiving a log",
        host,
        sinceMs: since,
        why: "no storage sends",
        next: "it takes what comes next",
      };
    }
    case "WaitForEmpty":
      return {
        step: "stop when empty",
        host,
        sinceMs,
        why: `it takes no logs until ${waitsFor.join(", ") || "every archive"} has everything`,
        next: `it stops then by itself; at once: walb stop ${at} --force; not at all: walb start ${at}`,
      };
    case "Stopped":
      return {
        step: "receiving a log",
        host,
        sinceMs,
        why: trouble?.error.message ?? "it is stopped",
        next: `nothing by itself; start it: walb start ${at}`,
      };
    default:
      return { step: state, host, sinceMs, why: `it is in ${state}`, next: "it goes on by itself" };
  }
}

/** What is known of the way to one archive. */
export interface DeliverySituation {
  readonly volume: string;
  readonly nodeId: string;
  readonly archiveName: string;
  readonly address: string;
  readonly state: ProxyState;
  /** Of the state. */
  readonly sinceMs: number;
  readonly isSending: boolean;
  /** The archive was asked then, and has not answered yet. */
  readonly askingSinceMs: number | undefined;
  readonly pendingCount: number;
  readonly oldestReceivedMs: number | undefined;
  readonly lastSentMs: number | undefined;
  readonly trouble: Trouble | undefined;
  /** The sender has something to send and waits for a place among the transfers, since then. */
  readonly placeSinceMs: number | undefined;
  readonly delayS: number;
}

/** Explains why an archive that was asked gets nothing yet; undefined once it does. */
function explainAsking({ archiveName, address, askingSinceMs, trouble }: DeliverySituation): Waiting | undefined {
  if (askingSinceMs === undefined) return undefined;
  const asked = { step: `sending to ${archiveName}`, host: `${archiveName} (${address})` };
  if (trouble === undefined) {
    const next = "without an answer it is tried again";
    return { ...asked, sinceMs: askingSinceMs, why: `${archiveName} has not answered yet`, next };
  }
  const { error, sinceMs, atMs } = trouble;
  const hint = error.hint === undefined ? "" : `; ${error.hint}`;
  return { ...asked, sinceMs: sinceMs ?? atMs, why: error.message, next: `it is being tried again now${hint}` };
}

/** Explains why nothing is sent; undefined while something is. */
export function explainDelivery(situation: DeliverySituation): Waiting | undefined {
  const { volume, nodeId, archiveName, address, trouble, pendingCount, placeSinceMs, delayS } = situation;
  if (situation.isSending) return explainAsking(situation);
  const step = `sending to ${archiveName}`;
  const since = situation.oldestReceivedMs ?? situation.sinceMs;
  if (!["Started", "WlogRecv", "WaitForEmpty"].includes(situation.state)) {
    const why = pendingCount === 0 ? "the volume is stopped; nothing waits" : "the volume is stopped";
    const next = `nothing by itself; start it: walb start ${volume} --server ${nodeId}`;
    return { step, host: nodeId, sinceMs: situation.sinceMs, why, next };
  }
  if (pendingCount === 0) {
    const idleMs = situation.lastSentMs ?? situation.sinceMs;
    const why = "it has everything";
    return { step, host: nodeId, sinceMs: idleMs, why, next: "what is received next is sent" };
  }
  if (trouble !== undefined) {
    const { error, sinceMs, atMs, retryAtMs } = trouble;
    const again = `it is tried again, sooner when a log comes, at once with: walb kick ${volume}`;
    return {
      step,
      host: `${archiveName} (${address})`,
      sinceMs: sinceMs ?? atMs,
      why: error.message,
      next: error.hint === undefined ? again : `${again}; ${error.hint}`,
      ...(retryAtMs === undefined ? {} : { nextMs: retryAtMs }),
    };
  }
  if (placeSinceMs !== undefined) {
    const why = "as many transfers of other volumes are under way as the proxy may run at once";
    const next = "it is sent in its turn; more at once with --max-background-tasks";
    return { step, host: nodeId, sinceMs: placeSinceMs, why, next };
  }
  if (delayS > 0 && situation.state !== "WaitForEmpty") {
    const why = `diffs for ${archiveName} are kept back for ${delayS} s, as was asked for`;
    const next = "it is sent when the time is over; stop with --empty sends it at once";
    return { step, host: nodeId, sinceMs: since, why, next, nextMs: since + delayS * 1000 };
  }
  return { step, host: nodeId, sinceMs: since, why: "it is about to be sent", next: "it is sent in a moment" };
}
