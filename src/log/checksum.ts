/**
 * @module The walb checksum in TypeScript, for headers and small blocks; bulk data goes through `Compute`.
 *
 * Sum of little-endian u32 words starting at the salt, negated; a tail of 1–3 bytes counts as a word padded with zeroes.
 * Source: `docs/formats.md`, the checksum.
 */

/** Running sum over more bytes; every piece but the last must be a multiple of 4 bytes long. */
function addToSum(sum: number, bytes: Uint8Array): number {
  let total = sum | 0;
  const wordBytes = bytes.length & ~3;
  if ((bytes.byteOffset & 3) === 0) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, wordBytes >> 2);
    for (let i = 0; i < words.length; i += 1) total = (total + words[i]!) | 0;
  } else {
    const view = new DataView(bytes.buffer, bytes.byteOffset, wordBytes);
    for (let i = 0; i < wordBytes; i += 4) total = (total + view.getInt32(i, true)) | 0;
  }
  let tail = 0;
  for (let i = wordBytes; i < bytes.length; i += 1) tail |= bytes[i]! << (8 * (i - wordBytes));
  return (total + tail) | 0;
}

/** walb checksum of the bytes with a salt, an unsigned 32-bit number. */
export function walbChecksum(bytes: Uint8Array, salt: number): number {
  return -addToSum(salt, bytes) >>> 0;
}

/** Stores at `fieldOffset` the checksum that makes the checksum of the whole block zero. */
export function sealBlock(block: Uint8Array, fieldOffset: number, salt: number): void {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  view.setUint32(fieldOffset, 0, true);
  view.setUint32(fieldOffset, walbChecksum(block, salt), true);
}

/** True when a block that holds its own checksum is intact. */
export function isSealed(block: Uint8Array, salt: number): boolean {
  return walbChecksum(block, salt) === 0;
}
