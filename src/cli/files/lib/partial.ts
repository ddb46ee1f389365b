/** @module Files that a tool has begun and that have another name when they are complete: none is left behind. */
import { unlinkSync } from "node:fs";

const begun = new Set<string>();
let isWatching = false;

/** Sees to it that the file is removed when the process ends before {@link partialEnds}, a kill -9 excepted. */
export function partialBegins(path: string): void {
  begun.add(path);
  if (isWatching) return;
  isWatching = true;
  process.on("exit", () => {
    for (const one of begun) removeNow(one);
  });
}

/** It has its own name now, or was removed. */
export function partialEnds(path: string): void {
  begun.delete(path);
}

function removeNow(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was renamed or removed a moment ago, or its directory is not there any more.
  }
}
