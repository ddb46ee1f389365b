/** @module The commands a storage answers over the wire protocol. */
import type { Control } from "../control/control.ts";
import { WalbError } from "../errors.ts";
import { replyVersion } from "../wire/commands.ts";
import { readGet, replyGet } from "../wire/get.ts";
import type { WireHandler } from "../wire/server.ts";

/** Handlers by protocol or command name. */
export function storageWireHandlers(control: Control): ReadonlyMap<string, WireHandler> {
  return new Map<string, WireHandler>([
    [
      "get",
      async (stream) => {
        const { name } = await readGet(stream, "storage");
        if (name === "host-type") return replyGet(stream, name, "storage");
        throw new WalbError("unsupported", { what: `this storage does not answer get ${name}` });
      },
    ],
    ["version", (stream) => replyVersion(stream, `version:${control.info().version}\tlog_version:2`)],
  ]);
}
