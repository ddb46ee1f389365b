/** @module `walb device checkpoint NAME` */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Writes what is only in the log to the data store",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: deviceFlags,
  examples: ["walb device checkpoint vol0"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    await withDevices(flags, io, (client) => client.checkpoint(name));
    print(flags, io, { name }, `${name} is checkpointed\n`);
    return 0;
  },
});
