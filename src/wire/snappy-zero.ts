/** @module Raw snappy of zero bytes, made without compressing: all-zero log data and padding go over the wire as this. */

/** Bytes one copy element of the pattern makes. */
const copyBytes = 64;

/**
 * A raw snappy block that expands to `sizeBytes` zero bytes, about 1/21 of the size.
 * Source of the format: the public description of snappy: a varint length, then a literal byte, then copies at offset 1.
 */
export function snappyZeros(sizeBytes: number): Uint8Array {
  const lengthBytes =
    sizeBytes < 0x80 ? 1 : sizeBytes < 0x4000 ? 2 : sizeBytes < 0x20_0000 ? 3 : sizeBytes < 0x1000_0000 ? 4 : 5;
  const copiedBytes = Math.max(sizeBytes - 1, 0);
  const copies = Math.ceil(copiedBytes / copyBytes);
  const bytes = new Uint8Array(lengthBytes + (sizeBytes > 0 ? 2 : 0) + copies * 3);
  let rest = sizeBytes;
  for (let i = 0; i < lengthBytes; i++) {
    bytes[i] = (rest & 0x7f) | (i + 1 < lengthBytes ? 0x80 : 0);
    rest = Math.floor(rest / 128);
  }
  if (sizeBytes === 0) return bytes;
  // A literal of one zero byte is two zero bytes, which the array already holds.
  const first = lengthBytes + 2;
  for (let i = 0; i < copies; i++) {
    const runBytes = Math.min(copyBytes, copiedBytes - i * copyBytes);
    bytes[first + i * 3] = ((runBytes - 1) << 2) | 2;
    bytes[first + i * 3 + 1] = 1;
  }
  return bytes;
}
