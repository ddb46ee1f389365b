/** @module Pieces of the original's status texts that all roles have. */

import { lbBytes } from "../../units.ts";
import type { StopState } from "../../volume/machine.ts";
import type { ToldKeepAlive } from "../role.ts";

/** A size with the largest unit it is a whole number of: `12m`, but `12582400`. */
export function sizeText(sizeLb: number): string {
  let value = sizeLb * lbBytes;
  let unit = "";
  for (const next of ["k", "m", "g", "t", "p"]) {
    if (value === 0 || value % 1024 !== 0) break;
    value /= 1024;
    unit = next;
  }
  return `${value}${unit}`;
}

const stopNames: Readonly<Record<StopState, string>> = {
  "not-stopping": "NotStopping",
  // The original's spelling, which scripts may look for.
  "waiting-for-empty": "WAitingForEmpty",
  stopping: "Stopping",
  "force-stopping": "ForceStopping",
};

export function stopStateText(stopState: StopState): string {
  return stopNames[stopState];
}

/** Deadline of sockets, and TCP keep-alive. */
export function socketLines(socketTimeoutMs: number, keepAlive: ToldKeepAlive | undefined): string[] {
  const timeout = `socketTimeout ${keepAlive?.socketTimeoutS ?? Math.floor(socketTimeoutMs / 1000)}`;
  if (keepAlive === undefined) return [timeout, "keepAlive OFF"];
  return [timeout, `keepAlive ON (idle ${keepAlive.idleS} intvl ${keepAlive.intervalS} cnt ${keepAlive.count})`];
}

/** A uuid that may not be known yet: then zeroes. */
export function uuidOrZero(uuid: string | undefined): string {
  return uuid ?? "0".repeat(32);
}
