/** @module `walb init VOL --device NAME`: puts a device under backup, at all servers of the fleet at once. */
import { resolve } from "node:path";
import type { DeviceReference } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import { type Fleet, primaryArchive, serversOf, storageOf } from "../../fleet/fleet.ts";
import { callOptions, clientFlags, loadFleet, print, remark } from "../common.ts";
import { asCompression, asInt, asPath, asText, asVolume, option, required } from "../flags.ts";
import { archiveClient, proxyClient, storageClient } from "../servers.ts";
import { defineVerb, type Io } from "../verb.ts";

const { server: _, ...flagsOfFleet } = clientFlags;

export const verb = defineVerb({
  summary: "Puts a device under backup: on the storage, the proxies and the archive of the fleet",
  description:
    "Repeat it after a failure: what was done already is left as it is. Back the volume up next, with walb backup VOL.",
  positionals: [{ name: "VOL", help: "name of the volume in the backup", isRequired: true }],
  flags: {
    device: required("NAME", "device of walb device on the storage's host", asText),
    "device-socket": option("PATH", "control socket of that walb device; default: the one the storage knows", asPath),
    compression: option("CODEC[:LEVEL]", "between proxies and archive; default snappy", asCompression),
    delay: option("SECONDS", "hold diffs back at the proxy for this long", asInt(0, 31_536_000)),
    ...flagsOfFleet,
  },
  examples: ["walb init vol0 --device vol0", "walb init db --device db0 --compression zstd:3"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const device = deviceReference(flags.device, flags["device-socket"], io);
    const fleet: Fleet = loadFleet(flags, io);
    const options = callOptions({ ...flags, server: undefined }, io);
    const storage = storageOf(fleet, volume);
    const archive = primaryArchive(fleet);
    const proxies = serversOf(fleet, "proxy");
    if (proxies.length === 0)
      throw new WalbError("usage", { what: "the fleet has no proxy server", where: { volume } });
    const did = (text: string): void => remark(flags, io, text);

    // The receiving end first: nothing is sent before somebody can take it.
    const atArchive = archiveClient(archive);
    if (stateOf(await atArchive.call("status", { volume }, options)) === "Clear") {
      await atArchive.call("init", { volume }, options);
      did(`${archive.name}: ready for backups of ${volume}`);
    }
    for (const proxy of proxies) {
      const atProxy = proxyClient(proxy);
      const state = stateOf(await atProxy.call("status", { volume }, options));
      if (state === "Clear" || state === "Stopped") {
        const compression = flags.compression === undefined ? {} : { compression: flags.compression };
        const delayS = flags.delay === undefined ? {} : { delayS: flags.delay };
        const entry = { volume, archiveName: archive.name, address: archive.address, ...compression, ...delayS };
        await atProxy.call("add-archive", entry, options);
        await atProxy.call("start", { volume }, options);
        did(`${proxy.name}: sends ${volume} to ${archive.name} at ${archive.address}`);
      }
    }
    const atStorage = storageClient(storage);
    if (stateOf(await atStorage.call("status", { volume }, options)) === "Clear") {
      await atStorage.call("init", { volume, device }, options);
      did(`${storage.name}: ${volume} is device ${flags.device}`);
    }
    const result = { volume, storage: storage.name, proxies: proxies.map(({ name }) => name), archive: archive.name };
    print(flags, io, result, `${volume} is ready; back it up with: walb backup ${volume}\n`);
    return 0;
  },
});

/** State of the only volume in a status. */
function stateOf(status: { readonly volumes: readonly { readonly state: string }[] }): string {
  return status.volumes[0]?.state ?? "Clear";
}

function deviceReference(name: string, socket: string | undefined, io: Io): DeviceReference {
  if (name.startsWith("/")) {
    throw new WalbError("unsupported", {
      what: `device ${name}: only devices of walb device can be put under continuous backup`,
      hint: "make one over it: walb device create vol0 --data /dev/vg/lv; then: walb init vol0 --device vol0",
    });
  }
  return { kind: "user", name, ...(socket === undefined ? {} : { socket: resolve(io.cwd, socket) }) };
}
