/** @module Why a volume that no daemon could open does not move: the same words for every role. */
import type { BrokenVolume } from "../volume/directories.ts";
import type { Waiting } from "./schemas.ts";

/** Why a volume that could not be opened does not move. */
export function brokenWaiting({ volume, error }: BrokenVolume, nodeId: string): Waiting {
  return {
    step: "open",
    host: nodeId,
    why: error.message,
    next: `nothing by itself; ${error.hint ?? `mend it and start the daemon again; see walb status ${volume}`}`,
  };
}
