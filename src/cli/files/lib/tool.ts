/** @module What a file tool works with: the platform, its inputs and outputs, progress on stderr. */
import type { JobInfo } from "../../../control/job.ts";
import type { DiffIo } from "../../../diff/types.ts";
import { WalbError } from "../../../errors.ts";
import type { Platform } from "../../../platform/platform.ts";
import { withPlatform } from "../../platform.ts";
import { progressView } from "../../progress.ts";
import type { Io } from "../../verb.ts";

/** One run of a tool. */
export interface Tool {
  readonly platform: Platform;
  readonly signal: AbortSignal;
  /** Tells how far the work is, in bytes; total undefined while it is not known. */
  progress(doneBytes: number, totalBytes?: number): void;
}

/** Runs a tool on the real platform; `name` is shown with its progress. Daemons are spoken to with the cluster key. */
export async function withTool<R>(
  io: Io,
  name: string,
  options: { readonly quiet: boolean; readonly clusterKey?: string | undefined },
  run: (tool: Tool) => Promise<R>,
): Promise<R> {
  const view = progressView(io, options.quiet);
  const startMs = io.nowMs();
  let shownMs = 0;
  try {
    const progress = (doneBytes: number, totalBytes?: number): void => {
      const nowMs = io.nowMs();
      if (nowMs - shownMs < 200) return;
      shownMs = nowMs;
      view.show(jobOf(name, startMs, nowMs, doneBytes, totalBytes));
    };
    const work = withPlatform(io, (platform) => run({ platform, signal: io.signal, progress }), options.clusterKey);
    return await endingSoon(work, io.signal);
  } finally {
    view.end();
  }
}

/** How long interrupted work may take to end by itself. */
const graceMs = 1000;

/** Waits for `work`, but not for long when it is interrupted: it may wait for a pipe at whose other end nothing happens. */
function endingSoon<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const giveUp = (): void => reject(new WalbError("cancelled", { what: "interrupted", cause: signal.reason }));
    const onAbort = (): void => {
      timer = setTimeout(giveUp, graceMs);
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    });
  });
}

/** A tool without progress, for tests and inner steps. */
export function plainTool(platform: Platform): Tool {
  return { platform, signal: new AbortController().signal, progress: () => undefined };
}

/** Surroundings of a diff writer or virtual image whose data is leased from the platform's pool. */
export function carvedIo({ disk, memory, compute }: Platform): DiffIo {
  return { disk, compute, memory: memory.carve(Math.floor(memory.budgetBytes / 2)) };
}

function jobOf(
  command: string,
  startedMs: number,
  nowMs: number,
  doneBytes: number,
  totalBytes: number | undefined,
): JobInfo {
  const elapsedS = Math.max(0.001, (nowMs - startedMs) / 1000);
  const rateBytesPerS = doneBytes / elapsedS;
  const isKnown = totalBytes !== undefined && rateBytesPerS > 0;
  return {
    id: "0",
    command,
    state: "running",
    startedMs,
    progress: {
      doneBytes,
      rateBytesPerS,
      step: "",
      ...(totalBytes === undefined ? {} : { totalBytes }),
      ...(isKnown ? { etaS: Math.max(0, totalBytes - doneBytes) / rateBytesPerS } : {}),
    },
  };
}
