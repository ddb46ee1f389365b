/** @module SipHash-2-4 with 128 bits as the original's `bhash` tool computes it, over a stream, on the calling thread. */
import { WalbError } from "../errors.ts";
import { mapMemory, shim } from "./shim.ts";

const stateBytes = 64;
const outBytes = 16;
/** States that no stream uses: shim memory is never unmapped, so it is reused. */
const free: { readonly address: number; readonly buffer: ArrayBuffer }[] = [];

/**
 * One stream. Key 00 01 … 0f; not the standard 128-bit variant, see `docs/formats.md`, tool hash. About 1.5 GB/s: give it
 * at most 1 MiB at a time, so that the event loop stays lively.
 */
export class SipHash {
  #state: { readonly address: number; readonly buffer: ArrayBuffer } | undefined;

  constructor() {
    this.#state = free.pop() ?? mapMemory(4096);
    shim.siphashBegin(this.#state.address);
  }

  /** Adds bytes. @throws WalbError `internal` after {@link end}. */
  update(bytes: Uint8Array): void {
    if (bytes.byteLength > 0) shim.siphashUpdate(this.#live().address, bytes);
  }

  /** The hash, 32 lower-case hex digits; the stream is over. @throws WalbError `internal` the second time. */
  end(): string {
    const state = this.#live();
    shim.siphashEnd(state.address, state.address + stateBytes);
    const hash = new Uint8Array(state.buffer, stateBytes, outBytes).toHex();
    this.release();
    return hash;
  }

  /** Gives up a stream that will not be ended. Idempotent. */
  release(): void {
    if (this.#state !== undefined) free.push(this.#state);
    this.#state = undefined;
  }

  #live(): { readonly address: number; readonly buffer: ArrayBuffer } {
    if (this.#state === undefined) throw new WalbError("internal", { what: "a hash is used after its end" });
    return this.#state;
  }
}
