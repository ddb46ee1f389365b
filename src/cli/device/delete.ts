/** @module `walb device delete NAME` */
import { confirm, destructiveFlags, print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Deletes a walb device with its files; block devices and files you named stay",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: {
    force: toggle("also while it is open or watched"),
    "keep-stores": toggle("leave all stores with what is in them, to go on elsewhere, e.g. with the kernel driver"),
    ...destructiveFlags,
    ...deviceFlags,
  },
  examples: ["walb device delete vol0", "walb device delete vol0 --keep-stores", "walb device delete vol0 --kernel"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.show(name));
    const keepStores = flags["keep-stores"];
    const isKept = keepStores || flags.kernel;
    const stores = `${isKept ? "and keep its" : "with"} data at ${report.dataPath} and log at ${report.logPath}`;
    const what = `delete device ${name} ${stores}`;
    if (!flags["dry-run"]) {
      await confirm(flags, io, `This is going to ${what}${isKept ? "" : " (those you named yourself stay)"}.`);
      await withDevices(flags, io, (client) => client.delete(name, { force: flags.force, keepStores }));
    }
    const { dataPath, logPath } = report;
    const result = { name, isDryRun: flags["dry-run"], dataPath, logPath };
    print(flags, io, result, `${flags["dry-run"] ? "would " : "did "}${what}\n`);
    return 0;
  },
});
