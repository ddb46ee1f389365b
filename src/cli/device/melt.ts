/** @module `walb device melt NAME` */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Lets writes of a frozen device go on",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: deviceFlags,
  examples: ["walb device melt vol0"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    await withDevices(flags, io, (client) => client.melt(name));
    print(flags, io, { name }, `${name} is melted\n`);
    return 0;
  },
});
