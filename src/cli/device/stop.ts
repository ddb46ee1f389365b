/** @module `walb device stop NAME` */
import { print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Closes the data and the log of a walb device, e.g. to repair the file system below",
  description:
    "All that was written goes to the data store first; of a read-only device it stays in the log. Until walb device start " +
    "NAME, or until the daemon is started again.",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: { force: toggle("also while clients are connected, which are cut off"), ...deviceFlags },
  examples: ["walb device stop vol0", "walb device stop vol0 --force"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.stop(name, { force: flags.force }));
    const start = `walb device start ${name}`;
    print(flags, io, report, `${name} is ${report.state}; bring it back with: ${start}\n`);
    return 0;
  },
});
