/** @module `walb device start NAME` */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, renderDevice, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Brings a walb device back that failed, takes no more writes or was stopped",
  description:
    "What a start of the daemon does, for one device: its stores are opened and its log is redone. Mend the cause first; " +
    "walb device show NAME tells it. Clients of a read-only device are cut off and connect anew. One that runs is left alone.",
  positionals: [{ name: "NAME", help: "name of the device", isRequired: true }],
  flags: deviceFlags,
  examples: ["walb device start vol0"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.start(name));
    print(flags, io, report, renderDevice(report));
    return 0;
  },
});
