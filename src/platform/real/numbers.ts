/** @module Numbers of a device as the C library takes a 32-bit dev_t apart. */

/** Bits 8 to 19. */
export function majorOf(rdev: number): number {
  return (rdev >>> 8) & 0xfff;
}

/** The rest of the bits. */
export function minorOf(rdev: number): number {
  return (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
}
