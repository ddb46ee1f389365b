/** @module Shapes that messages share with the snapshot algebra. */

export interface Snapshot {
  readonly gidB: bigint;
  readonly gidE: bigint;
}

export interface DiffMeta {
  readonly snapB: Snapshot;
  readonly snapE: Snapshot;
  readonly isMergeable: boolean;
  readonly isCompDiff: boolean;
  readonly timestampSec: number;
  readonly dataSizeBytes: number;
}

export interface ArchiveState {
  readonly isApplying: boolean;
  readonly timestampSec: number;
  readonly snapB: Snapshot;
  readonly snapE: Snapshot;
}
