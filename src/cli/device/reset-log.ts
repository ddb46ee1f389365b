/** @module `walb device reset-log NAME` */
import { confirm, destructiveFlags, print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Empties the log of a device; the volume needs a new backup then",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: { ...destructiveFlags, ...deviceFlags },
  examples: ["walb device reset-log vol0"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const what = `empty the log of ${name}: what was not shipped is lost for the backup, which must be made anew`;
    if (flags["dry-run"]) {
      print(flags, io, { name, isDryRun: true }, `would ${what}\n`);
      return 0;
    }
    await confirm(flags, io, `This is going to ${what}.`);
    const info = await withDevices(flags, io, (client) => client.resetLog(name));
    print(flags, io, { isDryRun: false, ...info }, `the log of ${name} is empty, its new uuid is ${info.uuid}\n`);
    return 0;
  },
});
