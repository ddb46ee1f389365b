/** @module Reads what the kernel's dm-log-writes target has recorded (Documentation/admin-guide/device-mapper/log-writes). */

const magic = 0x6a736677736872n;
const flags = { flush: 1, fua: 2, discard: 4, mark: 8 } as const;

/** One entry, in the order in which a disk may rely on. */
export interface LoggedIo {
  readonly isFlush: boolean;
  /** Name of a mark. */
  readonly mark: string | undefined;
  /** Undefined for what carries no data. */
  readonly write: { readonly offsetBytes: number; readonly bytes: Uint8Array } | undefined;
}

/** All entries of a log. @throws when it is none. */
export function readLoggedIo(log: Uint8Array): LoggedIo[] {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  if (view.getBigUint64(0, true) !== magic) throw new Error("this is no log of dm-log-writes");
  const entryCount = Number(view.getBigUint64(16, true));
  const sectorBytes = view.getUint32(24, true);
  const entries: LoggedIo[] = [];
  let at = sectorBytes;
  for (let i = 0; i < entryCount; i++) {
    const sector = Number(view.getBigUint64(at, true));
    const sectorCount = Number(view.getBigUint64(at + 8, true));
    const flag = Number(view.getBigUint64(at + 16, true));
    const dataBytes = Number(view.getBigUint64(at + 24, true));
    const isMark = (flag & flags.mark) !== 0;
    const mark = isMark ? new TextDecoder().decode(log.subarray(at + 32, at + 32 + dataBytes)) : undefined;
    at += sectorBytes;
    const isFlush = (flag & (flags.flush | flags.fua)) !== 0;
    const sizeBytes = sectorCount * sectorBytes;
    const offsetBytes = sector * sectorBytes;
    if (isMark || sizeBytes === 0) {
      entries.push({ isFlush, mark, write: undefined });
    } else if ((flag & flags.discard) !== 0) {
      // The device behind it reads back zeroes where it was discarded.
      entries.push({ isFlush, mark, write: { offsetBytes, bytes: new Uint8Array(sizeBytes) } });
    } else {
      entries.push({ isFlush, mark, write: { offsetBytes, bytes: log.subarray(at, at + sizeBytes) } });
      at += sizeBytes;
    }
  }
  return entries;
}
