/** @module `walb device attach NAME [/dev/nbdN]`: runs nbd-client. */
import { readdirSync, readFileSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Makes a walb device a block device of the kernel, with nbd-client",
  description:
    "Needs root, the nbd module (modprobe nbd) and the package nbd-client. Detach with: nbd-client -d /dev/nbd0",
  positionals: [
    { name: "NAME", help: "name of the device", isRequired: true },
    { name: "/dev/nbdN", help: "block device to use; default: the first free one" },
  ],
  flags: deviceFlags,
  examples: ["walb device attach vol0", "walb device attach vol0 /dev/nbd3"],
  async run({ flags, args, io }) {
    const name = asDeviceName(args[0]!);
    const report = await withDevices(flags, io, (client) => client.show(name));
    const device = args[1] ?? freeDevice();
    const uri = report.uris.find((candidate) => candidate.startsWith("nbd+unix:")) ?? report.uris[0];
    if (uri === undefined) {
      throw new WalbError("state", {
        what: `the device is not served (${report.state})`,
        where: { volume: name },
        ...(report.reason === undefined ? {} : { hint: report.reason }),
      });
    }
    const command = ["nbd-client", ...clientArguments(uri, name), device];
    const path = Bun.which("nbd-client", { PATH: `${io.env.PATH ?? ""}:/usr/sbin:/sbin` });
    if (path === null) {
      throw new WalbError("not-found", {
        what: "nbd-client is not installed",
        hint: `install the package nbd-client; then: ${command.join(" ")}`,
      });
    }
    const child = Bun.spawnSync([path, ...command.slice(1)], { stdout: "pipe", stderr: "pipe" });
    if (child.exitCode !== 0) {
      throw new WalbError("io", {
        what: `${command.join(" ")}: ${child.stderr.toString().trim() || `exit ${child.exitCode}`}`,
        hint: "it needs root and the nbd module: modprobe nbd",
      });
    }
    print(flags, io, { name, device, uri }, `${device}\n`);
    return 0;
  },
});

/** Arguments of nbd-client for an NBD URI. */
export function clientArguments(uri: string, name: string): string[] {
  const url = new URL(uri);
  const socket = url.searchParams.get("socket");
  if (socket !== null) return ["-unix", socket, "-N", name];
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return ["-N", name, host, url.port === "" ? "10809" : url.port];
}

function freeDevice(): string {
  const names = readdirSync("/sys/block")
    .filter((name) => /^nbd\d+$/.test(name))
    .sort((left, right) => Number(left.slice(3)) - Number(right.slice(3)));
  const free = names.find((name) => readFileSync(`/sys/block/${name}/size`, "utf8").trim() === "0");
  if (free !== undefined) return `/dev/${free}`;
  throw new WalbError("not-found", {
    what: names.length === 0 ? "the kernel has no nbd devices" : "all nbd devices are in use",
    hint: "modprobe nbd nbds_max=64",
  });
}
