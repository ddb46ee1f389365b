/** @module `walb device resize NAME SIZE` */
import { growNbdDevice } from "../../native/nbdkernel.ts";
import { lbBytes } from "../../units.ts";
import { print } from "../common.ts";
import { asSize } from "../flags.ts";
import { formatSize } from "../text/size.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";
import { attachedTo, backendOf, indexOf } from "./nbd.ts";

export const verb = defineVerb({
  summary: "Grows a walb device",
  description: "Where it is attached on this host, root's command lets the block device of the kernel grow, too.",
  positionals: [
    { name: "NAME", help: "name of the device", isRequired: true },
    { name: "SIZE", help: "new size, e.g. 20G", isRequired: true },
  ],
  flags: deviceFlags,
  examples: ["walb device resize vol0 20G"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const askedBytes = asSize(args[1]!);
    const info = await withDevices(flags, io, (client) => client.resize(name, askedBytes));
    const sizeBytes = info.sizeLb * lbBytes;
    const attached = flags.kernel || process.getuid?.() !== 0 ? undefined : attachedTo(name);
    if (attached !== undefined) growNbdDevice(indexOf(attached), sizeBytes, backendOf(name));
    const where = attached === undefined ? "" : `, and ${attached} with it`;
    print(flags, io, info, `${name} is ${formatSize(sizeBytes)} large${where}\n`);
    return 0;
  },
});
