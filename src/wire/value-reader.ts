/** @module The values of the wire read one by one, over a stream that reads what a decoder takes. */
import type { WalbError } from "../errors.ts";
import { badField, type Decoder, serializerLimits } from "./serializer.ts";
import { ackWord } from "./words.ts";

/** Reads values; `step` says in errors what is read. */
export abstract class ValueReader {
  /** One value when all its bytes are here, else undefined. */
  abstract poll<T>(decode: (decoder: Decoder) => T): T | undefined;

  /** One value, waited for. */
  abstract read<T>(step: string, decode: (decoder: Decoder) => T, deadlineMs?: number): Promise<T>;

  /** A violation of the protocol by the peer. */
  abstract protocolError(step: string, what: string): WalbError;

  readU8(step: string): Promise<number> {
    return this.read(step, (decoder) => decoder.u8());
  }

  readU32(step: string): Promise<number> {
    return this.read(step, (decoder) => decoder.u32(step));
  }

  readI32(step: string): Promise<number> {
    return this.read(step, (decoder) => decoder.i32(step));
  }

  readU64(step: string): Promise<bigint> {
    return this.read(step, (decoder) => decoder.u64());
  }

  /** A u64 as a safe integer of at most `max`. */
  readSize(step: string, max?: number): Promise<number> {
    return this.read(step, (decoder) => decoder.size(step, max));
  }

  readBool(step: string): Promise<boolean> {
    return this.read(step, (decoder) => decoder.bool(step));
  }

  readString(step: string, maxBytes?: number): Promise<string> {
    return this.read(step, (decoder) => decoder.string(step, maxBytes));
  }

  /** 16 raw bytes as 32 hex digits. */
  readUuid(step: string): Promise<string> {
    return this.read(step, (decoder) => decoder.uuid());
  }

  /** A vector of strings; each string has a deadline of its own, and the sum of bytes is bounded by `totalBytesMax`. */
  async readStrings(step: string, totalBytesMax = 64 * 1024 * 1024): Promise<string[]> {
    const count = await this.readSize(`${step} count`, serializerLimits.elements);
    const values: string[] = [];
    let totalBytes = 0;
    const one = (decoder: Decoder): string => decoder.string(step, serializerLimits.textBytes);
    for (let i = 0; i < count; i++) {
      const value = this.poll(one) ?? (await this.read(step, one));
      totalBytes += value.length;
      if (totalBytes > totalBytesMax) throw badField(step, `has more than ${totalBytesMax} bytes`);
      values.push(value);
    }
    return values;
  }

  /** @throws WalbError `protocol` unless the next value is an Ack. */
  async readAck(step: string, deadlineMs?: number): Promise<void> {
    const word = await this.read(step, (decoder) => decoder.u32("ack"), deadlineMs);
    if (word !== ackWord) {
      throw this.protocolError(step, `an Ack was expected, but 0x${word.toString(16)} came`);
    }
  }
}
