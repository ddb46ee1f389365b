/**
 * @module A simulated site of real roles under the names of the original's tests (s0, p0, a0, a1), and a controller that
 * speaks the wire protocol with it, by values or by bytes.
 */
import { openArchive } from "../../../src/archive/server.ts";
import type { PeerProcess, RunningRole } from "../../../src/control/role.ts";
import { deviceControlClient } from "../../../src/device/user/control/client.ts";
import { type DeviceDaemon, openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import type { Connection } from "../../../src/platform/net.ts";
import { openProxy } from "../../../src/proxy/server.ts";
import { createSimWorld, type SimHost, type SimWorld } from "../../../src/sim/sim.ts";
import { openStorage } from "../../../src/storage/server.ts";
import { runCommand, runLines } from "../../../src/wire/commands.ts";
import { type GetName, type GetValue, runGet } from "../../../src/wire/get.ts";
import { connectWire } from "../../../src/wire/handshake.ts";
import type { WireStream } from "../../../src/wire/stream.ts";
import { PeerError } from "../../../src/wire/words.ts";
import { RawNbd, request } from "../../device/nbd/raw.ts";
import { testLogger } from "../../helpers/backup-path.ts";

const mib = 1024 * 1024;
const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;
const nbdSocket = { kind: "unix", path: "/device/nbd.sock" } as const;

export const peerProcess: PeerProcess = {
  pid: 4711,
  async exec(words) {
    if (words[0] !== "/bin/echo") throw new PeerError("child process has returned non-zero:256");
    return [words.slice(1).join(" ")];
  },
};

export type ServerName = "s0" | "p0" | "a0" | "a1";
const ports: Readonly<Record<ServerName, number>> = { s0: 10000, p0: 10100, a0: 10200, a1: 10201 };

/** How a conversation by bytes went. */
export interface RawTalk {
  readonly answer: Uint8Array;
  /** The server ended its half. */
  readonly isEnded: boolean;
}

/** A site; `open` first, `close` at the end. */
export class LegacySite {
  readonly world: SimWorld;
  readonly hosts = new Map<string, SimHost>();
  readonly roles = new Map<ServerName, RunningRole>();
  device!: DeviceDaemon;
  #handle = 0;

  /** @param nodeIds other ids than the names of the servers. */
  constructor(
    seed: number,
    private readonly nodeIds: Partial<Record<ServerName, string>> = {},
  ) {
    this.world = createSimWorld(seed);
    for (const name of ["s0", "p0", "a0", "a1", "ctl"]) {
      this.hosts.set(name, this.world.host(name, { memoryBytes: 512 * mib }));
    }
  }

  async open(): Promise<void> {
    await this.world.complete(async () => {
      this.device = await openDeviceDaemon(this.#platform("s0"), {
        dataDir: "/device",
        nbdListeners: [nbdSocket],
        nodeId: "s0",
        nbdMemory: this.#platform("s0").memory.carve(128 * mib),
      });
      for (const name of ["a0", "a1", "p0", "s0"] as const) await this.start(name);
    });
  }

  #platform(name: string) {
    return this.hosts.get(name)!.platform;
  }

  async start(name: ServerName, host: string = name, port = ports[name]): Promise<void> {
    const platform = this.#platform(host);
    const common = {
      listen: tcp("", port),
      dataDir: `/data-${name}`,
      nodeId: this.nodeIds[name] ?? name,
      security: "insecure",
      process: peerProcess,
      onShutdown: () => undefined,
    } as const;
    const log = testLogger(platform);
    const role =
      name === "p0"
        ? await openProxy(platform, { ...common, retryDelayMsMax: 2_000 }, log)
        : name === "s0"
          ? await openStorage(
              platform,
              {
                ...common,
                archive: tcp("a0", ports.a0),
                proxies: [tcp("p0", ports.p0)],
                deviceSocket: "/device/control.sock",
                retryDelayMsMax: 2_000,
              },
              log,
            )
          : await openArchive(platform, common, log);
    this.roles.set(name, role);
  }

  /** Makes a device, to be used as /dev/walb/NAME. */
  async makeDevice(name: string, sizeLb = 2048, logBytes = 8 * mib): Promise<void> {
    await this.world.complete(async () => {
      const admin = await deviceControlClient(this.#platform("s0"), "/device/control.sock");
      await admin.create({ name, sizeBytes: sizeLb * 512, logSizeBytes: logBytes, overflow: "keep-writing" });
      await admin.close();
    });
  }

  /** Writes `sizeLb` blocks of one byte value. */
  async write(name: string, offsetLb: number, sizeLb: number, value: number): Promise<void> {
    await this.world.complete(async () => {
      const nbd = await RawNbd.go(this.#platform("s0").net, nbdSocket, name);
      const handle = ++this.#handle;
      nbd.send(request(1, handle, offsetLb * 512, sizeLb * 512, 0, new Uint8Array(sizeLb * 512).fill(value)));
      const { error } = await nbd.reply(handle);
      nbd.connection.close();
      if (error !== 0) throw new Error(`a write failed with ${error}`);
    });
  }

  /** One conversation as the controller. */
  talk<T>(server: ServerName, protocol: string, work: (stream: WireStream) => Promise<T>): Promise<T> {
    return this.world.complete(async () => {
      const { net, clock } = this.#platform("ctl");
      const { stream } = await connectWire(net, tcp(server, ports[server]), { clock, clientId: "ctl", protocol });
      try {
        return await work(stream);
      } finally {
        stream.close();
      }
    });
  }

  /** A command that answers ok or accept. */
  command(server: ServerName, name: string, parameters: readonly string[], word: "ok" | "accept" = "ok") {
    return this.talk(server, name, (stream) => runCommand(stream, name, parameters, word));
  }

  /** The text a command is refused with. */
  async refusal(server: ServerName, name: string, parameters: readonly string[]): Promise<string> {
    const text = await this.talk(server, name, async (stream) => {
      stream.put((encoder) => encoder.strings(parameters));
      return stream.readString("the answer", 100_000);
    });
    return text;
  }

  get<Name extends GetName>(server: ServerName, target: Name, ...args: string[]): Promise<GetValue<Name>> {
    return this.talk(server, "get", (stream) => runGet(stream, target, args));
  }

  status(server: ServerName, ...volume: string[]): Promise<string[]> {
    return this.talk(server, "status", (stream) => runLines(stream, "status", volume));
  }

  /** Asks again and again, in virtual time. */
  async until(what: string, condition: () => Promise<boolean>, limitMs = 60_000): Promise<void> {
    const endMs = this.world.nowMs() + limitMs;
    while (!(await condition())) {
      if (this.world.nowMs() > endMs) throw new Error(`${what} did not come`);
      await this.world.run(300);
    }
  }

  /** Says bytes, and hears the answer until the server ends or `limitMs` are over. */
  raw(server: ServerName, bytes: Uint8Array, limitMs = 5_000): Promise<RawTalk> {
    return this.world.complete(async () => {
      const { net, clock } = this.#platform("ctl");
      const connection = await net.connect(tcp(server, ports[server]), { timeoutMs: 5_000 });
      const chunks: Uint8Array[] = [];
      const isEnded = await new Promise<boolean>((resolve) => {
        connection.setReader({
          data: (chunk) => chunks.push(chunk.slice()),
          end: () => resolve(true),
          closed: () => resolve(true),
        });
        connection.resume();
        connection.write(bytes);
        clock.timer(limitMs, () => resolve(false));
      });
      connection.close();
      return { answer: new Uint8Array(Buffer.concat(chunks)), isEnded };
    });
  }

  /** A connection to be handled by the test. */
  connect(server: ServerName): Promise<Connection> {
    return this.world.complete(() =>
      this.#platform("ctl").net.connect(tcp(server, ports[server]), { timeoutMs: 5_000 }),
    );
  }

  /** Starts an archive on the host of another, at a port of its own. */
  async startBesides(host: ServerName, name: "a1", port: number): Promise<void> {
    await this.world.complete(async () => {
      await this.roles.get(name)?.close("force");
      await this.start(name, host, port);
    });
  }

  /** A command for what listens at a port. */
  commandAt(host: ServerName, port: number, name: string, parameters: readonly string[]): Promise<void> {
    return this.world.complete(async () => {
      const { net, clock } = this.#platform("ctl");
      const { stream } = await connectWire(net, tcp(host, port), { clock, clientId: "ctl", protocol: name });
      await runCommand(stream, name, parameters);
      stream.close();
    });
  }

  /** Makes a volume known to all, without a backup. */
  async initAll(volume: string, device = volume): Promise<void> {
    await this.makeDevice(device);
    await this.command("s0", "init-vol", [volume, `/dev/walb/${device}`]);
    if ((await this.get("a0", "state", volume)) === "Clear") await this.command("a0", "init-vol", [volume]);
    if ((await this.get("p0", "state", volume)) === "Clear") {
      await this.addArchive(volume);
      await this.command("p0", "start", [volume]);
    }
  }

  /** Takes the full backup and waits until it is restorable. */
  async takeFull(volume: string): Promise<void> {
    await this.command("s0", "full-bkp", [volume, "64k"], "accept");
    await this.until("Target", async () => (await this.get("s0", "state", volume)) === "Target");
    await this.until("a restorable gid", async () => (await this.get("a0", "restorable", volume)).length > 0);
  }

  /** Makes a volume on the whole path and takes its full backup, as the original's library does. */
  async backUp(volume: string, device = volume): Promise<void> {
    await this.initAll(volume, device);
    await this.takeFull(volume);
  }

  /** `archive-info add`. */
  addArchive(volume: string, verb: "add" | "update" = "add", name = "a0", host = "a0", port = ports.a0) {
    return this.talk("p0", "archive-info", async (stream) => {
      stream.put((encoder) => {
        encoder.strings([verb, volume]).string(name).string(host).u16(port).u8(2).u8(0).u8(1).u32(0);
      });
      const answer = await stream.readString("the answer", 100_000);
      if (answer !== "ok") throw new Error(answer);
    });
  }

  /** Takes a snapshot and waits until the archive has it. */
  async snapshot(volume: string): Promise<bigint> {
    const gid = await this.talk("s0", "snapshot", async (stream) => {
      await runCommand(stream, "snapshot", [volume]);
      return stream.readU64("the gid");
    });
    const isThere = async () => (await this.get("a0", "restorable", volume)).some((line) => line.startsWith(`${gid} `));
    await this.until(`gid ${gid}`, isThere);
    return gid;
  }

  close(): void {
    this.world.close();
  }
}
