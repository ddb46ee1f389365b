/** @module Opening an engine: locks, superblock, redo, then service. */
import type { EngineOptions, EngineParts } from "./options.ts";
import type { WriteAheadEngine } from "./volume.ts";

/**
 * Locks both stores, redoes the log onto the data store, clears stale headers, and starts serving.
 * @throws WalbError `locked`, `not-found`, `bad-format`, `damaged` (superblock or a record that does not fit the
 * volume), `out-of-range` (data store smaller than the volume), `io`.
 */
export declare function openEngine(parts: EngineParts, options: EngineOptions): Promise<WriteAheadEngine>;
