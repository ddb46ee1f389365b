/** @module For programs that measure themselves. */
import { memoryMibOf } from "./processes.ts";

/** Time and CPU time of one run. */
export interface Measured {
  readonly seconds: number;
  readonly cpuS: number;
}

/** Measures work of this process. */
export async function measured(work: () => Promise<unknown>): Promise<Measured> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuS: (user + system) / 1e6 };
}

/** Prints the program's answer, with the peak of its memory. */
export function finished(answer: object): void {
  console.log(JSON.stringify({ ...answer, peakMib: memoryMibOf("self", "VmHWM") }));
}
