/** @module Progress of a job on stderr: a bar with rate and ETA on a terminal, a line a minute elsewhere. */
import type { JobInfo } from "../control/job.ts";
import { formatRate, formatSize } from "./text/size.ts";
import { formatDuration } from "./text/time.ts";
import type { Io } from "./verb.ts";

const lineMs = 60_000;
const barWidth = 24;

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
        io.err(`\r\x1b[K${progressLine(job, true)}`);
      } else if (io.nowMs() - lastMs >= lineMs) {
        lastMs = io.nowMs();
        io.err(`${progressLine(job, false)}\n`);
      }
    },
    end() {
      if (hasBar) io.err("\r\x1b[K");
      hasBar = false;
    },
  };
}

/** `backup vol0 scanning [====      ]  41%  4.10G of 10.0G  120M/s  ETA 50s`. */
export function progressLine(job: JobInfo, hasBar: boolean): string {
  const { doneBytes, totalBytes, rateBytesPerS, etaS, step } = job.progress;
  const words = [[job.command, job.volume, step].filter((word) => word !== undefined && word !== "").join(" ")];
  if (totalBytes !== undefined && totalBytes > 0) {
    const part = Math.min(1, doneBytes / totalBytes);
    const full = Math.round(part * barWidth);
    if (hasBar) words.push(`[${"=".repeat(full)}${" ".repeat(barWidth - full)}]`);
    words.push(`${Math.floor(part * 100)}%`.padStart(4), `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`);
  } else {
    words.push(formatSize(doneBytes));
  }
  if (rateBytesPerS > 0) words.push(formatRate(rateBytesPerS));
  if (etaS !== undefined) words.push(`ETA ${formatDuration(etaS * 1000)}`);
  return words.join("  ");
}
