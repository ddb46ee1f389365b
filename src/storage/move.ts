/** @module Whether a device may take the place of a volume's device: the same log, with all that was not delivered. */
import type { DeviceStatus } from "../device/device.ts";
import { WalbError } from "../errors.ts";
import type { StorageStore } from "./store.ts";

/**
 * A volume that was never backed up may be made of any device. Another one goes on where it was, so nothing may be
 * missing from the log.
 * @throws WalbError `different-uuid`, `state`, `log-overflow`.
 */
export function checkSameLog(
  volume: string,
  deviceName: string,
  { logUuid, done }: Pick<StorageStore, "logUuid" | "done">,
  { uuid, lsids, isOverflow }: DeviceStatus,
): void {
  if (logUuid === undefined || done === undefined) return;
  const where = { volume };
  const hint =
    `start ${deviceName} over the volume's own log and data: --reuse-log. Or give the volume up and back the device ` +
    `up anew: walb clear ${volume}, walb init ${volume} --device DEVICE`;
  if (uuid !== logUuid) {
    const what = `the log of ${deviceName} is ${uuid}, that of the volume ${logUuid}: it is another one, or was reset`;
    throw new WalbError("different-uuid", { what, where, hint });
  }
  if (lsids.latest < done.lsid) {
    const what = `the log of ${deviceName} ends at lsid ${lsids.latest}, but ${done.lsid} was delivered: it is an old copy`;
    throw new WalbError("state", { what, where, hint });
  }
  if (isOverflow || lsids.oldest > done.lsid) {
    throw new WalbError("log-overflow", {
      what: `the log of ${deviceName} begins at lsid ${lsids.oldest}, but only ${done.lsid} was delivered: some is gone`,
      where,
      hint: `take a new backup: walb reset ${volume}, then walb backup ${volume}`,
    });
  }
}
