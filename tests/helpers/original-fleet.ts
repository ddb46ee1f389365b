/**
 * @module Daemons under the original's names, with the original's options, on devices of our device daemon: what its
 * scenario tests work on. Every daemon is a process of its own that can be killed by its name and started again.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, freePort, runBinary, type VerbResult } from "./fleet.ts";
import { Controller, type Layout, type Server, type ServerKind } from "./original-library.ts";
import { Relay } from "./relay.ts";

const readyMs = 120_000;

/** How many of each, s0 s1 … p0 p1 … a0 a1 …; one of each by default. */
export interface OriginalFleetOptions {
  readonly storages?: number;
  readonly proxies?: number;
  readonly archives?: number;
  /** More words for the daemons of a kind. */
  readonly words?: Partial<Record<ServerKind, readonly string[]>>;
  /** Names of daemons that their peers reach through a relay only. */
  readonly relayed?: readonly string[];
}

/** A running fleet. */
export class OriginalFleet {
  readonly directory: string;
  readonly controller: Controller;
  /** By the name of the daemon behind it. */
  readonly relays: ReadonlyMap<string, Relay>;
  readonly #options: OriginalFleetOptions;
  readonly #running = new Map<string, Bun.Subprocess>();
  #device: Bun.Subprocess | undefined;

  private constructor(
    directory: string,
    layout: Layout,
    relays: ReadonlyMap<string, Relay>,
    options: OriginalFleetOptions,
  ) {
    this.directory = directory;
    this.relays = relays;
    this.controller = new Controller(join(directory, "bin", "walbc"), layout);
    this.#options = options;
  }

  static async start(options: OriginalFleetOptions = {}): Promise<OriginalFleet> {
    const directory = mkdtempSync(join(tmpdir(), "walb-original-"));
    mkdirSync(join(directory, "bin"));
    for (const name of ["walbc", "walb-storage", "walb-proxy", "walb-archive", "wdevc"]) {
      symlinkSync(binary, join(directory, "bin", name));
    }
    const relays = new Map<string, Relay>();
    const servers = async (kind: ServerKind, letter: string, count: number): Promise<Server[]> => {
      const list: Server[] = [];
      for (let i = 0; i < count; i++) {
        const name = `${letter}${i}`;
        const port = await freePort();
        if (options.relayed?.includes(name) !== true) {
          list.push({ name, kind, port });
          continue;
        }
        const relay = await Relay.start(port);
        relays.set(name, relay);
        list.push({ name, kind, port, peerPort: relay.port });
      }
      return list;
    };
    const layout: Layout = {
      storages: await servers("storage", "s", options.storages ?? 1),
      proxies: await servers("proxy", "p", options.proxies ?? 1),
      archives: await servers("archive", "a", options.archives ?? 1),
    };
    const fleet = new OriginalFleet(directory, layout, relays, options);
    await fleet.#startDevice();
    for (const server of [...layout.archives, ...layout.proxies, ...layout.storages]) await fleet.run(server);
    return fleet;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  dataOf(server: Server): string {
    return this.path(server.name);
  }

  /** Where an archive has an image it restored: its file back end is in the place of `/dev/VG/wr_VOL_GID`. */
  restoredPath(archive: Server, volume: string, gid: number): string {
    return join(this.dataOf(archive), volume, `restored-${gid}.img`);
  }

  log(server: Server): string {
    const path = join(this.dataOf(server), `${server.name}.log`);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  get nbdSocket(): string {
    return this.path("device/nbd.sock");
  }

  /** Name of a running daemon's process, as `killall` looks for it. */
  processNameOf(server: Server): string {
    return readFileSync(`/proc/${this.#running.get(server.name)!.pid}/comm`, "utf8").trim();
  }

  async #startDevice(): Promise<void> {
    const data = this.path("device");
    this.#device = Bun.spawn([binary, "device", "--data", data], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    await until("the device daemon", () => existsSync(join(data, "control.sock")));
  }

  /** Makes a device, known as /dev/walb/NAME. */
  async makeDevice(name: string, size: string, logSize: string): Promise<string> {
    const sizes = ["--size", size, "--log-size", logSize, "--overflow", "keep-writing"];
    const { code, err } = await runBinary(["device", "create", name, ...sizes, "--device-data", this.path("device")]);
    if (code !== 0) throw new Error(err);
    return `/dev/walb/${name}`;
  }

  /** Runs the binary under another name, for our devices when it is the device tool. */
  async tool(name: string, ...words: string[]): Promise<VerbResult> {
    const path = this.path(`bin/${name}`);
    if (!existsSync(path)) symlinkSync(binary, path);
    const env = { ...process.env, WALB_DEVICE_SOCKET: this.path("device/control.sock") };
    const child = Bun.spawn([path, ...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, out, err };
  }

  /** Starts one daemon with the words the original's library starts it with. */
  async run(server: Server): Promise<void> {
    mkdirSync(this.dataOf(server), { recursive: true });
    const child = Bun.spawn([join(this.directory, "bin", `walb-${server.kind}`), ...this.#words(server)], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: Bun.file(this.path(`${server.name}.err`)),
    });
    this.#running.set(server.name, child);
    await until(`${server.name} (${this.log(server)})`, async () => {
      if (child.exitCode !== null)
        throw new Error(`${server.name} ended: ${readFileSync(this.path(`${server.name}.err`))}`);
      return isOpen(server.port);
    });
  }

  #words(server: Server): string[] {
    const { layout } = this.controller;
    const address = (peer: Server): string => `127.0.0.1:${peer.peerPort ?? peer.port}`;
    const own: Record<ServerKind, readonly string[]> = {
      storage: [
        ...["-archive", address(layout.archives[0]!), "-proxy", layout.proxies.map(address).join(",")],
        ...["-device-socket", this.path("device/control.sock"), "-bg", "2"],
      ],
      proxy: ["-bg", "2"],
      archive: ["-images", "file", "-discard", "zero"],
    };
    const common = ["-p", `${server.port}`, "-b", this.dataOf(server), "-l", `${server.name}.log`, "-id", server.name];
    return [...common, "-fg", "4", "-maxdelay", "2", "-allow-exec"]
      .concat(own[server.kind], this.#options.words?.[server.kind] ?? [])
      .filter((word, i, words) => server.kind !== "archive" || (word !== "-maxdelay" && words[i - 1] !== "-maxdelay"));
  }

  /** SIGKILL. */
  async kill(server: Server): Promise<void> {
    const child = this.#running.get(server.name);
    this.#running.delete(server.name);
    child?.kill("SIGKILL");
    await child?.exited;
  }

  /** By the controller's `shutdown`; answers the exit code. */
  async stop(server: Server, mode: "graceful" | "force" = "graceful"): Promise<number | undefined> {
    const child = this.#running.get(server.name);
    this.#running.delete(server.name);
    await this.controller.shutdown(server, mode);
    return child?.exited;
  }

  /** Deletes what a daemon remembers. */
  forget(server: Server): void {
    rmSync(this.dataOf(server), { recursive: true, force: true });
  }

  async close(): Promise<void> {
    for (const child of this.#running.values()) child.kill("SIGTERM");
    await Promise.all([...this.#running.values()].map((child) => child.exited));
    for (const relay of this.relays.values()) relay.close();
    this.#device?.kill("SIGTERM");
    await this.#device?.exited;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + readyMs;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`${what} is not ready after ${readyMs} ms`);
    await Bun.sleep(20);
  }
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
