/** @module A device as it is named on the command line. */
import { resolve } from "node:path";
import type { DeviceReference } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import type { Io } from "../verb.ts";

/** @throws WalbError for what is no walb device. */
export function deviceReference(text: string, socket: string | undefined, io: Io): DeviceReference {
  const kernelName = /^\/dev\/walb\/([^/]{1,25})$/.exec(text)?.[1];
  if (kernelName !== undefined && kernelName !== "control") {
    if (socket === undefined) return { kind: "kernel", name: kernelName };
    throw new WalbError("usage", {
      what: `${text} is a device of the kernel driver, which has no --device-socket`,
      where: { field: "device-socket" },
      hint: "leave --device-socket out, or give the name of a device of walb device",
    });
  }
  if (text.startsWith("/")) {
    throw new WalbError("unsupported", {
      what: `device ${text}: only walb devices, which keep a log, can be put under continuous backup`,
      hint: "make one over it: walb device create vol0 --data /dev/vg/lv; then: walb init vol0 --device vol0",
    });
  }
  return { kind: "user", name: text, ...(socket === undefined ? {} : { socket: resolve(io.cwd, socket) }) };
}
