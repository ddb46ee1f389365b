/** @module What a wish for a new volume comes to: its configuration and its stores. Pure. */
import type { z } from "zod";
import type { createVolumeSchema } from "./control/schema.ts";
import type { VolumeConfig } from "./daemon-config.ts";
import type { StoreWishes } from "./daemon-stores.ts";

/** Stores that the wish names no path of are the daemon's own. @param resolve makes paths absolute. */
export function planVolume(
  wish: z.output<typeof createVolumeSchema>,
  resolve: (path: string) => string,
): { readonly config: VolumeConfig; readonly stores: StoreWishes } {
  const { name, sizeBytes, overflow, tuning, logSizeBytes, pbsBytes, reuseLog } = wish;
  const { dataPath = `${name}.data`, logPath = `${name}.log` } = wish;
  const owns = { ownsData: wish.dataPath === undefined, ownsLog: wish.logPath === undefined };
  return {
    config: {
      walbVolume: 1,
      name,
      state: "creating",
      sizeBytes: sizeBytes ?? 0,
      dataPath,
      logPath,
      overflow,
      ...(tuning === undefined ? {} : { tuning }),
      ...owns,
    },
    stores: {
      name,
      dataPath: resolve(dataPath),
      logPath: resolve(logPath),
      ...owns,
      sizeBytes,
      logSizeBytes,
      pbsBytes,
      reuseLog,
    },
  };
}
