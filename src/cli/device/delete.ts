/** @module `walb device delete NAME` */
import { confirm, destructiveFlags, print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Deletes a walb device with its files; block devices and files you named stay",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: { force: toggle("also while it is open or watched"), ...destructiveFlags, ...deviceFlags },
  examples: ["walb device delete vol0", "walb device delete vol0 --dry-run"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.show(name));
    const what = `delete device ${name} with data at ${report.dataPath} and log at ${report.logPath}`;
    if (!flags["dry-run"]) {
      await confirm(flags, io, `This is going to ${what} (those you named yourself stay).`);
      await withDevices(flags, io, (client) => client.delete(name, { force: flags.force }));
    }
    print(flags, io, { name, isDryRun: flags["dry-run"] }, `${flags["dry-run"] ? "would " : "did "}${what}\n`);
    return 0;
  },
});
