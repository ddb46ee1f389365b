/**
 * @module The write-ahead engine: a volume whose every write is in a WalB log before it is on the data store.
 *
 * The parts are in `engine/`; this file is what front ends and the control socket see.
 */
export { openEngine } from "./engine/open.ts";
export type { EngineOptions, EngineParts, OverflowPolicy } from "./engine/options.ts";
export type { EngineCounters, WriteAheadEngine } from "./engine/volume.ts";
