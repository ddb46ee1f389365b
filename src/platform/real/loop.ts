/** @module What Linux tells of the files behind loop devices. */
import { readFileSync } from "node:fs";
import { errnoOf } from "../../native/errno.ts";
import { majorOf, minorOf } from "./numbers.ts";

/** The file that a loop device shows. */
export interface LoopBacking {
  readonly path: string;
  /** All of the file is shown; else others may show other parts of it, and rightly so. */
  readonly isWhole: boolean;
}

/** The file behind a loop device, or behind a partition of one; undefined for any other device. */
export function loopBackingOf(rdev: number): LoopBacking | undefined {
  const device = `/sys/dev/block/${majorOf(rdev)}:${minorOf(rdev)}`;
  for (const place of ["loop", "../loop"]) {
    const path = attributeOf(`${device}/${place}/backing_file`);
    if (path === undefined) continue;
    const limits = ["offset", "sizelimit"].map((name) => attributeOf(`${device}/${place}/${name}`));
    return { path, isWhole: place === "loop" && limits.every((limit) => limit === "0") };
  }
  return undefined;
}

function attributeOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").replace(/\n$/, "");
  } catch (error) {
    // No loop device, or one without a file.
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
