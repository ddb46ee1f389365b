/** @module `walb device list` */
import { print, remark } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { deviceFlags, listDevices, renderDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Lists the walb devices of this host",
  flags: deviceFlags,
  description: "Those of the device daemon, and those of the kernel driver where it is loaded.",
  examples: ["walb device list", "walb device list --json"],
  async run({ flags, io }) {
    const { devices, failure } = await listDevices(flags, io);
    if (failure !== undefined) remark(flags, io, `only those of the kernel driver: ${failure.message}`);
    const none = "no devices; make one with: walb device create vol0 --size 10G\n";
    print(flags, io, { devices }, devices.length === 0 ? none : renderDevices(devices));
    return 0;
  },
});
