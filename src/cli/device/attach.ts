/** @module `walb device attach NAME [/dev/nbdN]`: runs nbd-client. */
import { existsSync, readdirSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

/** nbd-client goes to the background as soon as it is connected. */
const clientTimeoutMs = 30_000;
const install = "install it: apt-get install nbd-client, or dnf install nbd";

// One of the kernel driver is a block device already.
const { kernel: _, ...flagsOfDaemon } = deviceFlags;

export const verb = defineVerb({
  summary: "Makes a walb device a block device of the kernel, with nbd-client",
  description:
    "Needs root, the nbd module (modprobe nbd) and the package nbd-client. Detach with: nbd-client -d /dev/nbd0",
  positionals: [
    { name: "NAME", help: "name of the device", isRequired: true },
    { name: "/dev/nbdN", help: "block device to use; default: the first free one" },
  ],
  flags: flagsOfDaemon,
  examples: ["walb device attach vol0", "walb device attach vol0 /dev/nbd3"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const asked = args[1] === undefined ? undefined : asNbdDevice(args[1]);
    const report = await withDevices({ ...flags, kernel: false }, io, (client) => client.show(name));
    const uri = report.uris.find((candidate) => candidate.startsWith("nbd+unix:")) ?? report.uris[0];
    if (uri === undefined) {
      throw new WalbError("state", {
        what: `the device is not served: it is ${report.state}${report.reason === undefined ? "" : `, ${report.reason}`}`,
        where: { volume: name },
        hint: `look with: walb device show ${name}`,
      });
    }
    if (uri.startsWith("nbds:")) {
      throw new WalbError("unsupported", {
        what: "the device is served over TLS only, and nbd-client would need certificates for that",
        where: { volume: name },
        hint: "let the daemon serve a unix socket too: walb device --nbd unix:/run/walb/nbd.sock --nbd …",
      });
    }
    const device = chooseDevice(asked, nbdDevices());
    const command = ["nbd-client", ...clientArguments(uri, name), device];
    const path = Bun.which("nbd-client", { PATH: `${io.env.PATH ?? ""}:/usr/sbin:/sbin` });
    if (path === null) {
      throw new WalbError("not-found", { what: "nbd-client is not installed", hint: `${install}; then again` });
    }
    if (process.getuid?.() !== 0) {
      throw new WalbError("unsupported", {
        what: "only root can attach block devices",
        hint: `run it with: sudo ${command.join(" ")}`,
      });
    }
    const child = Bun.spawnSync([path, ...command.slice(1)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: clientTimeoutMs,
    });
    if (child.exitedDueToTimeout) {
      throw new WalbError("timed-out", {
        what: `${command.join(" ")} has not connected within ${clientTimeoutMs / 1000} s`,
        hint: `is the device frozen? Look with: walb device show ${name}`,
      });
    }
    if (child.exitCode !== 0) {
      const said = child.stderr.toString().trim().split("\n").at(-1) ?? "";
      throw new WalbError("io", {
        what: `${command.join(" ")}: ${said === "" ? `exit code ${child.exitCode}` : said}`,
        hint: "is the nbd module loaded? modprobe nbd",
      });
    }
    print(flags, io, { name, device, uri }, `${device}\n`);
    return 0;
  },
});

/** @throws WalbError `usage`. */
function asNbdDevice(text: string): string {
  if (/^\/dev\/nbd\d{1,4}$/.test(text)) return text;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not an NBD block device`,
    hint: "e.g. /dev/nbd0; leave it out for the first free one",
  });
}

/** Arguments of nbd-client for an NBD URI. */
export function clientArguments(uri: string, name: string): string[] {
  const url = new URL(uri);
  const socket = url.searchParams.get("socket");
  if (socket !== null) return ["-unix", socket, "-N", name];
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return ["-N", name, host, url.port === "" ? "10809" : url.port];
}

/** An NBD block device of the kernel. */
export interface NbdDevice {
  /** `/dev/nbd0` */
  readonly path: string;
  readonly isInUse: boolean;
}

/** The device that was asked for, or the first free one. @throws WalbError when there is none or it is in use. */
export function chooseDevice(asked: string | undefined, devices: readonly NbdDevice[]): string {
  const free = devices.find(({ path, isInUse }) => (asked === undefined ? !isInUse : path === asked));
  if (free !== undefined && !free.isInUse) return free.path;
  if (devices.length === 0) {
    throw new WalbError("not-found", { what: "the kernel has no nbd devices", hint: "load the module: modprobe nbd" });
  }
  if (free !== undefined) {
    throw new WalbError("busy", {
      what: `${free.path} is in use`,
      hint: `leave it out for the first free one, or detach it: nbd-client -d ${free.path}`,
    });
  }
  throw new WalbError(asked === undefined ? "busy" : "not-found", {
    what: asked === undefined ? `all ${devices.length} nbd devices are in use` : `there is no ${asked}`,
    hint:
      asked === undefined
        ? "detach one: nbd-client -d /dev/nbd0; or load the module with more: modprobe nbd nbds_max=64"
        : `there are ${devices[0]?.path} to ${devices.at(-1)?.path}`,
  });
}

/** What the kernel has, by number. The pid is there exactly while a client is connected. */
function nbdDevices(): NbdDevice[] {
  if (!existsSync("/sys/block")) return [];
  return readdirSync("/sys/block")
    .filter((name) => /^nbd\d+$/.test(name))
    .sort((left, right) => Number(left.slice(3)) - Number(right.slice(3)))
    .map((name) => ({ path: `/dev/${name}`, isInUse: existsSync(`/sys/block/${name}/pid`) }));
}
