/** @module `walb device attach NAME [/dev/nbdN]`: a device of the kernel, and a process that keeps it connected. */
import { resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import {
  closeNbdConnections,
  connectNbdDevice,
  livingNbdConnections,
  type NbdPatience,
  type NbdPeer,
  openNbdConnections,
  reconnectNbdDevice,
  waitForNbdEnd,
} from "../../native/nbdkernel.ts";
import { print } from "../common.ts";
import { childEnvironment, ownCommand } from "../demo/daemons.ts";
import { asDuration, asInt, optionOr, toggle } from "../flags.ts";
import { defineVerb, type Io } from "../verb.ts";
import { asDeviceName, deviceFlags, withDevices } from "./common.ts";
import { asNbdDevice, backendOf, chooseDevice, indexOf, isAttached, nbdDevices, peerOf } from "./nbd.ts";

const retryMs = 250;

// One of the kernel driver is a block device already.
const { kernel: _, ...flagsOfDaemon } = deviceFlags;

export const verb = defineVerb({
  summary: "Makes a walb device a block device of the kernel",
  description:
    "Needs root and the nbd module (modprobe nbd). A process stays in the background: when the device daemon is restarted, requests wait, and go on over new connections. Detach with: walb device detach NAME",
  positionals: [
    { name: "NAME", help: "name of the device", isRequired: true },
    { name: "/dev/nbdN", help: "block device to use; default: the first free one" },
  ],
  flags: {
    connections: optionOr("N", "connections to the daemon, 1 to 16", asInt(1, 16), "4"),
    patience: optionOr("TIME", "how long requests wait for a daemon that is away before they fail", asDuration, "10m"),
    "request-timeout": optionOr("TIME", "a request without an answer for so long is sent again", asDuration, "30s"),
    foreground: toggle("stay in the foreground, as a service does"),
    ...flagsOfDaemon,
  },
  examples: [
    "walb device attach vol0",
    "walb device attach vol0 /dev/nbd3 --patience 1h",
    "walb device attach vol0 /dev/nbd0 --foreground",
  ],
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
        what: "the device is served over TLS only, which the kernel cannot",
        where: { volume: name },
        hint: "let the daemon serve a unix socket too: walb device --nbd unix:/run/walb/nbd.sock --nbd …",
      });
    }
    const device = chooseDevice(asked, nbdDevices());
    if (process.getuid?.() !== 0) {
      const hint = `run it as root: sudo walb device attach ${name} ${device}`;
      throw new WalbError("unsupported", { what: "only root can attach block devices", hint });
    }
    const patience = {
      deadTimeoutS: Math.max(1, Math.round(flags.patience / 1000)),
      requestTimeoutS: Math.max(1, Math.round(flags["request-timeout"] / 1000)),
    };
    if (!flags.foreground) return inBackground(flags, name, device, io);
    const peer = peerOf(uri, name);
    const say = (text: string): void => {
      if (!flags.quiet) io.err(`${text}\n`);
    };
    return keep(device, peer, patience, flags.connections, say, () =>
      print(flags, io, { name, device, uri }, `${device}\n`),
    );
  },
});

/** The same command again, in the foreground of a session of its own; ends as soon as that says that it is connected. */
async function inBackground(
  flags: {
    readonly connections: number;
    readonly patience: number;
    readonly "request-timeout": number;
    readonly "device-data": string;
    readonly "device-socket": string | undefined;
    readonly json: boolean;
  },
  name: string,
  device: string,
  io: Io,
): Promise<number> {
  const words = [
    ...["--connections", `${flags.connections}`, "--patience", `${flags.patience}ms`],
    ...["--request-timeout", `${flags["request-timeout"]}ms`],
    ...["--device-data", resolve(io.cwd, flags["device-data"])],
    ...(flags["device-socket"] === undefined ? [] : ["--device-socket", resolve(io.cwd, flags["device-socket"])]),
    ...(flags.json ? ["--json"] : []),
  ];
  const child = Bun.spawn([...ownCommand(), "device", "attach", name, device, ...words, "--foreground", "--quiet"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    cwd: "/",
    env: childEnvironment(),
    detached: true,
  });
  const { value } = await child.stdout.getReader().read();
  if (value === undefined) {
    io.err(await new Response(child.stderr).text());
    return child.exited;
  }
  io.out(new TextDecoder().decode(value));
  child.unref();
  return 0;
}

/** Connects the device, and connects it anew whenever the server was away, until it is detached. */
async function keep(
  device: string,
  peer: NbdPeer,
  patience: NbdPatience,
  count: number,
  say: (text: string) => void,
  attached: () => void,
): Promise<number> {
  const backend = backendOf(peer.exportName);
  const index = indexOf(device);
  let connections = openNbdConnections(peer, count);
  connectNbdDevice(index, connections, patience, backend);
  attached();
  for (;;) {
    // What was printed must be out before this thread blocks.
    await Bun.sleep(retryMs);
    waitForNbdEnd(connections);
    // The others of a daemon that ends go, too, and the kernel takes note of them.
    await Bun.sleep(retryMs);
    let complaint = "";
    while (isAttached(device, backend)) {
      const living = livingNbdConnections(connections);
      try {
        const fresh = openNbdConnections(peer, count - living.fds.length);
        try {
          reconnectNbdDevice(index, fresh, patience, backend);
        } catch (error) {
          closeNbdConnections(fresh);
          throw error;
        }
        connections = { ...fresh, fds: Int32Array.of(...living.fds, ...fresh.fds) };
        say(`${device} is connected again`);
        break;
      } catch (error) {
        connections = { ...living, fds: Int32Array.from(living.fds) };
        const text = error instanceof Error ? error.message : `${error}`;
        if (text !== complaint) say(`${device} waits: ${text}`);
        complaint = text;
        await Bun.sleep(retryMs);
      }
    }
    if (!isAttached(device, backend)) return 0;
  }
}
