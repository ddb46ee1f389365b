/** @module DER (X.690), as much of it as a certificate needs. */

export const tags = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
};

/** One element. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.of(tag), lengthOf(content.length), content]);
}

export const sequence = (...contents: readonly Uint8Array[]): Uint8Array => element(tags.sequence, ...contents);

/** Context-specific and constructed. */
export const tagged = (number: number, ...contents: readonly Uint8Array[]): Uint8Array =>
  element(0xa0 | number, ...contents);

export const boolean = (value: boolean): Uint8Array => element(0x01, Buffer.of(value ? 0xff : 0));

/** A number that is not negative, big-endian. */
export function integer(bytes: Uint8Array): Uint8Array {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0 && bytes[from + 1]! < 0x80) from += 1;
  const sign = bytes[from]! >= 0x80 ? Buffer.of(0) : Buffer.alloc(0);
  return element(tags.integer, sign, bytes.subarray(from));
}

/** `2.5.29.15` */
export function oid(text: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest.flatMap(base128)];
  return element(tags.oid, Buffer.from(bytes));
}

/** @param unusedBits of the last byte. */
export const bitString = (bytes: Uint8Array, unusedBits = 0): Uint8Array =>
  element(tags.bitString, Buffer.of(unusedBits), bytes);

export const octetString = (bytes: Uint8Array): Uint8Array => element(tags.octetString, bytes);

export const utf8 = (text: string): Uint8Array => element(tags.utf8, Buffer.from(text));

/** To the second: two digits of the year before 2050, four from then on (RFC 5280 §4.1.2.5). */
export function time(timeMs: number): Uint8Array {
  const digits = new Date(timeMs).toISOString().replace(/[-:T]|\.\d+/g, "");
  const isShort = Number(digits.slice(0, 4)) < 2050;
  return element(isShort ? 0x17 : 0x18, Buffer.from(isShort ? digits.slice(2) : digits));
}

/** As text, in lines of 64. */
export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function lengthOf(size: number): Uint8Array {
  if (size < 0x80) return Buffer.of(size);
  const bytes: number[] = [];
  for (let rest = size; rest > 0; rest >>>= 8) bytes.unshift(rest & 0xff);
  return Buffer.of(0x80 | bytes.length, ...bytes);
}

function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift(0x80 | (rest & 0x7f));
  return bytes;
}
