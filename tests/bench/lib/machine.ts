/** @module What the machine is: for the heading. */
import { readFileSync, statfsSync } from "node:fs";
import { arch, availableParallelism, cpus, release, totalmem } from "node:os";

/** The machine and the file system that is used. */
export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly fileSystem: string;
  readonly freeGib: number;
}

/** Type of the file system a path is on, e.g. `ext4`: that of the longest mount point above it. */
export function fileSystemOf(path: string): string {
  let best = { point: "", type: "unknown" };
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, mountPoint = "", type = ""] = line.split(" ");
    const point = mountPoint.replaceAll("\\040", " ");
    const isAbove = point === "/" || path === point || path.startsWith(`${point}/`);
    if (isAbove && point.length >= best.point.length) best = { point, type };
  }
  return best.type;
}

export function describeMachine(directory: string): Machine {
  const { bavail, bsize } = statfsSync(directory);
  return {
    cores: availableParallelism(),
    processor: `${cpus()[0]?.model ?? "unknown"} ${arch()}`,
    memoryGib: totalmem() / 2 ** 30,
    kernel: release(),
    fileSystem: fileSystemOf(directory),
    freeGib: (bavail * bsize) / 2 ** 30,
  };
}

export function machineLine(machine: Machine): string {
  const { cores, processor, memoryGib, kernel, fileSystem, freeGib } = machine;
  return `machine: ${cores} cores (${processor}), ${memoryGib.toFixed(0)} GiB memory, Linux ${kernel}, ${fileSystem} with ${freeGib.toFixed(0)} GiB free`;
}
