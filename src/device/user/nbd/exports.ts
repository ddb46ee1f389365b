/** @module What an NBD server exports, and what a client is told about it. */
import type { BlockVolume } from "../block.ts";
import { transmissionFlags } from "./protocol.ts";

/** The volumes a server offers; asked at each negotiation, so volumes may come and go. */
export interface NbdExports {
  /** Names in the order LIST shows them. */
  names(): readonly string[];
  /** The volume, or undefined when there is none of the name or it is not running. */
  find(name: string): BlockVolume | undefined;
}

/** Finds the volume of an export name; "" is the only volume when there is exactly one. */
export function findExport(exports: NbdExports, name: string): BlockVolume | undefined {
  if (name !== "") return exports.find(name);
  const names = exports.names();
  return names.length === 1 ? exports.find(names[0]!) : undefined;
}

/** Transmission flags of a volume. CAN_MULTI_CONN is honest: all connections of a volume share one log. */
export function exportFlags(volume: BlockVolume, isStructured: boolean): number {
  const f = transmissionFlags;
  return (
    f.hasFlags |
    f.sendFlush |
    f.sendFua |
    f.sendTrim |
    f.sendWriteZeroes |
    f.canMultiConn |
    f.sendCache |
    f.sendFastZero |
    (isStructured ? f.sendDf : 0) |
    (volume.readOnlyReason === undefined ? 0 : f.readOnly)
  );
}
