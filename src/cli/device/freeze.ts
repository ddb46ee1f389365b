/** @module `walb device freeze NAME` */
import { print } from "../common.ts";
import { asDuration, option } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

const { timeout: _, ...flagsWithoutTimeout } = deviceFlags;

export const verb = defineVerb({
  summary: "Holds the writes of a device back until it is melted",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: { timeout: option("TIME", "melt by itself after this time", asDuration), ...flagsWithoutTimeout },
  examples: ["walb device freeze vol0 --timeout 10s"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const options = flags.timeout === undefined ? {} : { timeoutMs: flags.timeout };
    await withDevices({ ...flags, timeout: undefined }, io, (client) => client.freeze(name, options));
    print(flags, io, { name }, `${name} is frozen; let it go on with: walb device melt ${name}\n`);
    return 0;
  },
});
