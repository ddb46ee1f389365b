/** @module `walb device list` */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { deviceFlags, renderDevices, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Lists the walb devices of this host",
  flags: deviceFlags,
  examples: ["walb device list", "walb device list --json"],
  async run({ flags, io }) {
    const devices = await withDevices(flags, io, (client) => client.list());
    const none = "no devices; make one with: walb device create vol0 --size 10G\n";
    print(flags, io, { devices }, devices.length === 0 ? none : renderDevices(devices));
    return 0;
  },
});
