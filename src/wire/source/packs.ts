/** @module Puts differing bulks into packs for the wire: a pack is filled in one buffer, and sent before the next is begun. */
import { packHeaderBytes, packRecordsMax } from "../../diff/format.ts";
import { PackBuilder } from "../../diff/pack.ts";
import { RecordKind } from "../../diff/types.ts";
import { Codec, type Compute, type Encoded } from "../../native/codec.ts";
import type { Memory } from "../../native/memory.ts";
import { lbBytes, mib } from "../../units.ts";
import type { OutgoingPack } from "../pack-stream.ts";

/** Records of a pack begin less than this behind the first. Source: `docs/protocol.md`, hash-sync stream. */
const spanLbMax = (256 * mib) / lbBytes;

/** Where a differing bulk is. */
export interface BulkPlace {
  readonly addressLb: number;
  readonly blocksLb: number;
}

/** Fills packs with records in ascending order. */
export class DiffPacks {
  readonly #buffer: Memory;
  readonly #compute: Compute;
  #builder: PackBuilder;
  #firstLb = 0;

  /** @param buffer at least a header and the largest bulk; what is larger makes larger packs, up to their limits. */
  constructor(buffer: Memory, compute: Compute) {
    this.#buffer = buffer;
    this.#compute = compute;
    this.#builder = this.#begin();
  }

  /**
   * Adds a bulk. Gives the pack before when this one does not belong into it; the memory of that pack is used again when
   * the generator goes on.
   * @param source what was encoded; undefined for a hole. @param target where its encoded form is.
   */
  *add(
    place: BulkPlace,
    encoded: Encoded | undefined,
    source?: Memory,
    target?: Memory,
  ): Generator<OutgoingPack, void> {
    const isZero = encoded === undefined || encoded.isZero;
    const storedBytes = isZero ? 0 : encoded.storedBytes;
    if (this.#isFull(place, storedBytes)) yield* this.finish();
    const builder = this.#builder;
    if (builder.records === 0) this.#firstLb = place.addressLb;
    const { addressLb, blocksLb } = place;
    if (isZero) {
      builder.add(addressLb, blocksLb, RecordKind.allZero, Codec.none, 0, undefined);
      return;
    }
    const { codec, checksum } = encoded;
    const stored = this.#buffer.slice(packHeaderBytes + builder.dataBytes, storedBytes);
    const from = codec === Codec.none ? source : target;
    stored.bytes.set(from!.bytes.subarray(0, storedBytes));
    builder.add(addressLb, blocksLb, RecordKind.normal, codec, checksum, stored);
  }

  /** Gives the pack as far as it is filled, when it is not empty, and begins another. */
  *finish(): Generator<OutgoingPack, void> {
    const builder = this.#builder;
    if (builder.records === 0) return;
    builder.seal(this.#compute);
    yield { memory: this.#buffer.slice(0, packHeaderBytes + builder.dataBytes), release: () => undefined };
    this.#builder = this.#begin();
  }

  #isFull(place: BulkPlace, storedBytes: number): boolean {
    const { records, dataBytes } = this.#builder;
    if (records === 0) return false;
    if (records >= packRecordsMax || place.addressLb - this.#firstLb >= spanLbMax) return true;
    return packHeaderBytes + dataBytes + storedBytes > this.#buffer.sizeBytes;
  }

  #begin(): PackBuilder {
    return new PackBuilder(this.#buffer.slice(0, packHeaderBytes));
  }
}
