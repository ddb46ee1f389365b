/** @module `walb device show NAME` */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, renderDevice, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Shows everything about a walb device",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: deviceFlags,
  examples: ["walb device show vol0"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.show(name));
    print(flags, io, report, renderDevice(report));
    return 0;
  },
});
