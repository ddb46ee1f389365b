/** @module Progress of a job on stderr: a bar with rate and ETA on a terminal, a line a minute elsewhere. */
import type { JobInfo } from "../control/job.ts";
import { formatRate, formatSize } from "./text/size.ts";
import { formatDuration } from "./text/time.ts";
import type { Io } from "./verb.ts";

const lineMs = 60_000;
/** Widest and narrowest bar. */
const barWidthMax = 24;
const barWidthMin = 8;

/** Shows the progress of one job. */
export interface ProgressView {
  show(job: JobInfo): void;
  /** Takes the bar away. */
  end(): void;
}

/** Makes a view; shows nothing when quiet. */
export function progressView(io: Io, isQuiet: boolean): ProgressView {
  let lastMs = io.nowMs();
  let hasBar = false;
  return {
    show(job) {
      if (isQuiet || job.state !== "running") return;
      if (io.isErrTerminal) {
        hasBar = true;
        io.err(`\r\x1b[K${progressLine(job, io.errColumns?.() ?? 80)}`);
      } else if (Math.abs(io.nowMs() - lastMs) >= lineMs) {
        lastMs = io.nowMs();
        io.err(`${progressLine(job)}\n`);
      }
    },
    end() {
      if (hasBar) io.err("\r\x1b[K");
      hasBar = false;
    },
  };
}

/**
 * `backup vol0 scanning  [====      ]  41%  4.10G of 10.0G  120M/s  ETA 50s`. With a width: for a terminal, with a bar as
 * wide as there is room for; never as wide as the terminal, so that it stays one line.
 */
export function progressLine(job: JobInfo, terminalWidth?: number): string {
  const { doneBytes, totalBytes, rateBytesPerS, etaS, step } = job.progress;
  const name = [job.command, job.volume, step].filter((word) => word !== undefined && word !== "").join(" ");
  const part = totalBytes === undefined || totalBytes === 0 ? undefined : Math.min(1, doneBytes / totalBytes);
  const numbers =
    part === undefined || totalBytes === undefined
      ? [formatSize(doneBytes)]
      : [`${Math.floor(part * 100)}%`.padStart(4), `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`];
  if (rateBytesPerS > 0) numbers.push(formatRate(rateBytesPerS));
  if (etaS !== undefined) numbers.push(`ETA ${formatDuration(etaS * 1000)}`);
  if (terminalWidth === undefined) return [name, ...numbers].join("  ");
  const room = terminalWidth - 1 - [name, "", ...numbers].join("  ").length - "[]".length;
  const width = Math.min(barWidthMax, room);
  const bar = part === undefined || width < barWidthMin ? [] : [renderBar(part, width)];
  return [name, ...bar, ...numbers].join("  ").slice(0, Math.max(0, terminalWidth - 1));
}

function renderBar(part: number, width: number): string {
  const full = Math.round(part * width);
  return `[${"=".repeat(full)}${" ".repeat(width - full)}]`;
}
