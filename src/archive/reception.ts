/** @module Waiting for a diff that is being received: proxies send one after the other, and others would never find a gap. */
import type { Clock } from "../platform/clock.ts";
import type { ArchiveVolume } from "./volume.ts";

/** How long to wait for the diff that is being received. */
const diffWaitMs = 60_000;

/** Waits for the diff under way, at most a minute: the transition that follows says what is in the way. */
export async function untilNoDiff(clock: Clock, machine: ArchiveVolume["machine"]): Promise<void> {
  const late = new AbortController();
  const timer = clock.timer(diffWaitMs, () => late.abort());
  try {
    await machine.until(() => machine.state !== "WdiffRecv" || late.signal.aborted, late.signal);
  } catch (error) {
    if (!late.signal.aborted) throw error;
  } finally {
    timer.cancel();
  }
}
