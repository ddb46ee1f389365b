/** @module Received chunks as one stream of bytes, parsed in place and copied once. */

/** Smaller buffers are left to the garbage collector. */
const giveBackBytesMin = 16 * 1024;

/**
 * A queue of received chunks. Bounded by its user, who pauses the socket while it does not consume: then it holds at
 * most what was under way.
 */
export class ByteQueue {
  /** After {@link ensure}: where the asked bytes are. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  private readonly chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that are consumed. */
  private headBytes = 0;
  private sizeBytes = 0;

  get availableBytes(): number {
    return this.sizeBytes;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.chunks.push(chunk);
    this.sizeBytes += chunk.length;
  }

  /** Makes the next `size` bytes readable in one piece at `bytes[at]`; false when they are not here yet. */
  ensure(size: number): boolean {
    if (this.sizeBytes < size) return false;
    const head = this.chunks[0];
    if (head === undefined || head.length - this.headBytes >= size) {
      this.bytes = head ?? this.bytes;
      this.at = this.headBytes;
      return true;
    }
    const joined = new Uint8Array(size);
    let filled = 0;
    for (let i = 0; filled < size; i++) {
      const chunk = this.chunks[i]!;
      const from = i === 0 ? this.headBytes : 0;
      const part = Math.min(size - filled, chunk.length - from);
      joined.set(chunk.subarray(from, from + part), filled);
      filled += part;
    }
    this.bytes = joined;
    this.at = 0;
    return true;
  }

  /** Drops up to `size` bytes; returns how many. */
  skip(size: number): number {
    let left = Math.min(size, this.sizeBytes);
    const skipped = left;
    while (left > 0) {
      const rest = this.chunks[0]!.length - this.headBytes;
      const part = Math.min(rest, left);
      this.take(part, rest);
      left -= part;
    }
    return skipped;
  }

  /** Moves up to `size` bytes to `target[offset…]`; returns how many. */
  copyInto(target: Uint8Array, offset: number, size: number): number {
    let left = Math.min(size, this.sizeBytes);
    const copied = left;
    let to = offset;
    while (left > 0) {
      const head = this.chunks[0]!;
      const rest = head.length - this.headBytes;
      const part = Math.min(rest, left);
      target.set(
        this.headBytes === 0 && part === head.length ? head : head.subarray(this.headBytes, this.headBytes + part),
        to,
      );
      this.take(part, rest);
      to += part;
      left -= part;
    }
    return copied;
  }

  clear(): void {
    this.chunks.length = 0;
    this.headBytes = 0;
    this.sizeBytes = 0;
    this.bytes = new Uint8Array(0);
    this.at = 0;
  }

  private take(part: number, rest: number): void {
    this.sizeBytes -= part;
    if (part < rest) {
      this.headBytes += part;
      return;
    }
    const used = this.chunks.shift();
    this.headBytes = 0;
    // The collector does not see how large socket buffers are: hundreds of MiB would pile up before it runs. A chunk that
    // is all of its buffer is ours alone.
    if (used !== undefined && used.length >= giveBackBytesMin && used.length === used.buffer.byteLength) {
      if (this.bytes === used) this.bytes = new Uint8Array(0);
      if (used.buffer instanceof ArrayBuffer) used.buffer.transfer(0);
    }
  }
}
