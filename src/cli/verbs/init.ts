/** @module `walb init VOL --device NAME`: puts a device under backup, at all servers of the fleet at once. */
import { resolve } from "node:path";
import type { DeviceReference } from "../../control/storage.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { type Fleet, type FleetServer, primaryArchive, serversOf, storageOf } from "../../fleet/fleet.ts";
import type { CallOptions } from "../../http/client.ts";
import { callOptions, clientFlags, loadFleet, print, remark } from "../common.ts";
import { defaultDataDir } from "../daemon/common.ts";
import { asDeviceName, withDevices } from "../device/common.ts";
import { deviceReference } from "../device/reference.ts";
import { asCompression, asInt, asPath, asSize, asText, asVolume, option, optionOr, toggle } from "../flags.ts";
import { archiveClient, type ProxyClient, proxyClient, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

const { server: _, ...flagsOfFleet } = clientFlags;

export const verb = defineVerb({
  summary: "Puts a device under backup: on the storage, the proxies and the archive of the fleet",
  description:
    "When a server refuses or does not answer, what was made at the others is taken back. Repeated, it leaves what is " +
    "there as it is. To undo it later: walb forget VOL. Back the volume up next, with walb backup VOL.",
  positionals: [{ name: "VOL", help: "name of the volume in the backup", isRequired: true }],
  flags: {
    device: option("NAME", "device on the storage's host: a name of walb device, or /dev/walb/NAME", asText),
    size: option("SIZE", "make a device of this size first, named as the volume, on this host", asSize),
    data: option("PATH", "make the device over this disk or file, with its content", asPath, {
      isFromEnvironment: false,
    }),
    "log-size": option("SIZE", "of the log of a device that is made, default 1G", asSize),
    "device-data": optionOr("DIR", "data directory of the walb device daemon", asPath, defaultDataDir("device")),
    "device-socket": option("PATH", "control socket of that walb device; default: the one the storage knows", asPath),
    moved: toggle("the volume's log and data were moved to this device: go on with it, without a new backup"),
    compression: option("CODEC[:LEVEL]", "between proxies and archive; default snappy", asCompression),
    delay: option("SECONDS", "hold diffs back at the proxy for this long", asInt(0, 31_536_000)),
    ...flagsOfFleet,
  },
  examples: [
    "walb init vol0 --device vol0",
    "walb init vol0 --size 10G",
    "walb init vol1 --device /dev/walb/vol1",
    "walb init vol0 --device /dev/walb/vol0 --moved",
    "walb init db --device db0 --compression zstd:3",
  ],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const makes = flags.size !== undefined || flags.data !== undefined;
    if (makes === (flags.device !== undefined)) {
      throw new WalbError("usage", {
        what: makes
          ? "--device names a device that is there; --size and --data make one"
          : "it is not said which device",
        hint: `a new one: walb init ${volume} --size 10G; one that is there: walb init ${volume} --device NAME`,
      });
    }
    const device = deviceReference(flags.device ?? volume, flags["device-socket"], io);
    const fleet: Fleet = loadFleet(flags, io);
    const options = callOptions({ ...flags, server: undefined }, io);
    const storage = storageOf(fleet, volume);
    const archive = primaryArchive(fleet);
    const proxies = serversOf(fleet, "proxy");
    if (proxies.length === 0)
      throw new WalbError("usage", { what: "the fleet has no proxy server", where: { volume } });
    /** What was made, newest first, to be taken back when the rest fails. */
    const undo: { readonly at: FleetServer; run(): Promise<unknown> }[] = [];
    /** A server that does not answer may have done what was asked, or do it still: its way back is taken as well. */
    const ask = async (at: FleetServer, call: Promise<unknown>, back: () => Promise<unknown>): Promise<void> => {
      try {
        await call;
      } catch (error) {
        if (["timed-out", "unreachable"].includes(asWalbError(error).code)) undo.unshift({ at, run: back });
        throw error;
      }
    };
    const did = (text: string, at: FleetServer, run?: () => Promise<unknown>): void => {
      remark(flags, io, text);
      if (run !== undefined) undo.unshift({ at, run });
    };

    const [atStorage, atArchive] = [storageClient(storage), archiveClient(archive)];
    const atProxies = proxies.map((proxy) => ({ proxy, client: proxyClient(proxy) }));
    const known = only(await atStorage.call("status", { volume }, options));
    refuseBroken(storage, known);
    if (flags.moved) {
      if (stateOf(known) === "Clear") throw unknownVolume(storage, volume);
      await atStorage.call("set-device", { volume, device }, options);
      const moved = { volume, storage: storage.name, device };
      print(flags, io, moved, `${volume} is device ${deviceText(device)} now; go on with: walb start ${volume}\n`);
      return 0;
    }
    // All are asked before anything is changed: what one refuses must not leave the volume on the others.
    const image = only(await atArchive.call("status", { volume }, options));
    const relays = await Promise.all(
      atProxies.map(async ({ client }) => only(await client.call("status", { volume }, options))),
    );
    refuseBroken(archive, image);
    refuseOther(storage, volume, known, device);

    if (makes) await makeDevice();
    try {
      await make();
    } catch (error) {
      for (const { at, run } of undo) {
        const failed = await run().then(
          () => undefined,
          (thrown: unknown) => asWalbError(thrown).message,
        );
        const later = `it may know ${volume}; when it answers: walb clear ${volume} --server ${at.name}`;
        remark(
          flags,
          io,
          `${at.name}: ${failed === undefined ? "undone" : `could not be undone: ${failed}\n  ${later}`}`,
        );
      }
      throw error;
    }
    const result = { volume, storage: storage.name, proxies: proxies.map(({ name }) => name), archive: archive.name };
    print(flags, io, result, `${volume} is ready; back it up with: walb backup ${volume}\n`);
    const more = flags.fleet === undefined ? "" : ` --fleet ${flags.fleet}`;
    remark(flags, io, `next: walb backup ${volume} --wait${more}`);
    return 0;

    /** A device that is there already is taken: the command was repeated. */
    async function makeDevice(): Promise<void> {
      const { timeout } = flags;
      const place = { "device-data": flags["device-data"], "device-socket": flags["device-socket"] };
      const admin = { kernel: false, ...place, timeout };
      const { size, data, "log-size": logSizeBytes } = flags;
      const isThere = (await withDevices(admin, io, (client) => client.list())).some(({ name }) => name === volume);
      if (isThere) return remark(flags, io, `device ${volume} is there already`);
      const made = await withDevices(admin, io, (client) =>
        client.create({
          name: asDeviceName(volume),
          ...(size === undefined ? {} : { sizeBytes: size }),
          ...(data === undefined ? {} : { dataPath: resolve(io.cwd, data) }),
          ...(logSizeBytes === undefined ? {} : { logSizeBytes }),
          overflow: "keep-writing",
        }),
      );
      remark(flags, io, `device ${volume} is made: ${made.uris[0] ?? ""}`);
    }

    async function make(): Promise<void> {
      // The storage first, since it looks whether the device is there; it sends nothing before the first backup.
      if (stateOf(known) === "Clear") {
        const back = () => atStorage.call("clear", { volume }, options);
        await ask(storage, atStorage.call("init", { volume, device }, options), back);
        did(`${storage.name}: ${volume} is device ${deviceText(device)}`, storage, back);
      }
      if (stateOf(image) === "Clear") {
        const back = () => atArchive.call("clear", { volume }, options);
        await ask(archive, atArchive.call("init", { volume }, options), back);
        did(`${archive.name}: ready for backups of ${volume}`, archive, back);
      }
      for (const [at, { proxy, client }] of atProxies.entries()) {
        // A proxy that lost its database takes over the diffs it has; one that is broken otherwise says why it does not.
        if (!["Clear", "Stopped", "Broken"].includes(stateOf(relays[at]))) continue;
        const compression = flags.compression === undefined ? {} : { compression: flags.compression };
        const delayS = flags.delay === undefined ? {} : { delayS: flags.delay };
        const entry = { volume, archiveName: archive.name, address: archive.address, ...compression, ...delayS };
        const isNew = stateOf(relays[at]) === "Clear";
        const back = () => forgetAt(client, volume, options);
        const added = client.call("add-archive", entry, options);
        await (isNew ? ask(proxy, added, back) : added);
        if (isNew) undo.unshift({ at: proxy, run: back });
        await client.call("start", { volume }, options);
        did(`${proxy.name}: sends ${volume} to ${archive.name} at ${archive.address}`, proxy);
      }
    }
  },
});

/** A proxy forgets a volume that it has nothing of yet. */
async function forgetAt(client: ProxyClient, volume: string, options: CallOptions): Promise<void> {
  await client.call("stop", { volume, mode: "force" }, options).catch(() => undefined);
  await client.call("clear", { volume }, options);
}

/** What a server says of the volume. */
interface Known {
  readonly state: string;
  readonly trouble?: { readonly message: string; readonly hint?: string | undefined } | undefined;
  readonly device?: DeviceReference | undefined;
}

/** The only volume in a status. */
function only(status: { readonly volumes: readonly Known[] }): Known | undefined {
  return status.volumes[0];
}

function stateOf(known: Known | undefined): string {
  return known?.state ?? "Clear";
}

/** @throws WalbError `state` with what the server says of a volume it cannot open. */
function refuseBroken(server: FleetServer, known: Known | undefined): void {
  if (known?.state !== "Broken") return;
  const { message = "it does not say why", hint } = known.trouble ?? {};
  throw new WalbError("state", {
    what: `the ${server.role} cannot open the volume: ${message}`,
    where: { host: server.name },
    ...(hint === undefined ? {} : { hint }),
  });
}

function unknownVolume(server: FleetServer, volume: string): WalbError {
  return new WalbError("not-found", {
    what: "the storage does not know this volume",
    where: { host: server.name, volume },
    hint: "put it under backup, without --moved",
  });
}

/** @throws WalbError `already-exists` when the volume is another device. */
function refuseOther(server: FleetServer, volume: string, known: Known | undefined, device: DeviceReference): void {
  if (known?.device === undefined) return;
  if (known.device.name === device.name && known.device.kind === device.kind) return;
  throw new WalbError("already-exists", {
    what: `the volume is device ${deviceText(known.device)} already, not ${deviceText(device)}`,
    where: { host: server.name, volume },
    hint: `was its log moved there? Add --moved. Otherwise use another name for the volume; or forget the old one, with its backups: walb stop ${volume}, walb clear ${volume}`,
  });
}

/** As it is written on the command line. */
function deviceText({ kind, name }: DeviceReference): string {
  return kind === "kernel" ? `/dev/walb/${name}` : name;
}
