/** @module A file or device copied into a new file: as a reflink where the file system can. */
import { WalbError } from "../../errors.ts";
import { errnoError } from "../../native/errno.ts";
import { Op } from "../../native/layout.ts";
import type { FileCopyOptions } from "../disk.ts";
import type { RealDiskFile } from "./file.ts";

/** FICLONE is not possible here, so copy: EPERM, EXDEV, EINVAL, ENOTTY, ENOSYS, EOPNOTSUPP. */
const errnoNoReflink = new Set([1, 18, 22, 25, 38, 95]);
/** Bytes of one copy job: how often progress is told and cancelling is heard. */
const copyStepBytes = 64 * 1024 * 1024;

/** Gives an empty file all that the source has. @throws WalbError `cancelled` by the signal. */
export async function fillClone(
  source: RealDiskFile,
  target: RealDiskFile,
  options: FileCopyOptions,
): Promise<"reflink" | "copy"> {
  const totalBytes = await source.size();
  if (!source.isBlockDevice) {
    const { result } = await target.raw({ op: Op.ficlone, isSlow: true, extra: source.fd });
    if (result >= 0) {
      options.onProgress?.(totalBytes, totalBytes);
      return "reflink";
    }
    if (!errnoNoReflink.has(-result)) throw errnoError("clone", -result, { file: target.path });
  }
  await target.truncate(totalBytes);
  for (let offset = 0; offset < totalBytes; ) {
    if (options.signal?.aborted === true) {
      throw new WalbError("cancelled", { what: "copying was cancelled", where: { file: target.path } });
    }
    const size = Math.min(copyStepBytes, totalBytes - offset);
    const job = { op: Op.copyRange, isSlow: true, offset, size, extra: target.fd };
    offset = Math.min((await source.run(`copy to ${target.path}`, job)).result2, totalBytes);
    options.onProgress?.(offset, totalBytes);
  }
  return "copy";
}
