/** @module `walb device detach NAME|/dev/nbdN` */
import { WalbError } from "../../errors.ts";
import { disconnectNbdDevice } from "../../native/nbdkernel.ts";
import { print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName } from "./common.ts";
import { asNbdDevice, attachedTo, indexOf, nbdDevices } from "./nbd.ts";

export const verb = defineVerb({
  summary: "Ends what attach began: the block device of the kernel is free again",
  description: "Unmount it first: what the kernel still holds back is lost to whoever uses it.",
  positionals: [{ name: "NAME|/dev/nbdN", help: "name of the device, or its block device", isRequired: true }],
  flags: {
    json: toggle("one JSON value on stdout instead of text; fields may be added"),
    quiet: toggle("no remarks", { alias: "q" }),
  },
  examples: ["walb device detach vol0", "walb device detach /dev/nbd0"],
  run({ flags, args, io }) {
    const text = args[0]!;
    const device = text.startsWith("/") ? asNbdDevice(text) : deviceOf(asDeviceName(text));
    if (process.getuid?.() !== 0) {
      const hint = `run it as root: sudo walb device detach ${text}`;
      throw new WalbError("unsupported", { what: "only root can detach block devices", hint });
    }
    if (!nbdDevices().some(({ path, isInUse }) => path === device && isInUse)) {
      throw new WalbError("not-found", { what: `${device} is not attached`, hint: "ls /sys/block/nbd*/pid shows all" });
    }
    disconnectNbdDevice(indexOf(device));
    print(flags, io, { device }, `${device} is free\n`);
    return Promise.resolve(0);
  },
});

function deviceOf(name: string): string {
  const found = attachedTo(name);
  if (found !== undefined) return found;
  throw new WalbError("not-found", {
    what: `no block device of this kernel is attached to ${name}`,
    hint: "name the block device: walb device detach /dev/nbd0",
  });
}
