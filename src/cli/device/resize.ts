/** @module `walb device resize NAME SIZE` */

import { lbBytes } from "../../units.ts";
import { print } from "../common.ts";
import { asSize } from "../flags.ts";
import { formatSize } from "../text/size.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Grows a walb device",
  positionals: [
    { name: "NAME", help: "name of the device", isRequired: true },
    { name: "SIZE", help: "new size, e.g. 20G", isRequired: true },
  ],
  flags: deviceFlags,
  examples: ["walb device resize vol0 20G"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const sizeBytes = asSize(args[1]!);
    const info = await withDevices(flags, io, (client) => client.resize(name, sizeBytes));
    print(flags, io, info, `${name} is ${formatSize(info.sizeLb * lbBytes)} large\n`);
    return 0;
  },
});
