/**
 * @module Daemons under the original's names, with the original's options, on devices of our device daemon: what its
 * scenario tests work on. Every daemon is a process of its own that can be killed by its name and started again.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, freePort, runBinary } from "./fleet.ts";
import { Controller, type Layout, type Server, type ServerKind } from "./original-library.ts";

const readyMs = 20_000;

/** How many of each, s0 s1 … p0 p1 … a0 a1 …; one of each by default. */
export interface OriginalFleetOptions {
  readonly storages?: number;
  readonly proxies?: number;
  readonly archives?: number;
  /** More words for the daemons of a kind. */
  readonly words?: Partial<Record<ServerKind, readonly string[]>>;
  /** Ports under which peers are told of daemons, by name: those of relays. */
  readonly peerPorts?: Readonly<Record<string, number>>;
}

/** A running fleet. */
export class OriginalFleet {
  readonly directory: string;
  readonly controller: Controller;
  readonly #options: OriginalFleetOptions;
  readonly #running = new Map<string, Bun.Subprocess>();
  #device: Bun.Subprocess | undefined;

  private constructor(directory: string, layout: Layout, options: OriginalFleetOptions) {
    this.directory = directory;
    this.controller = new Controller(join(directory, "bin", "walbc"), layout);
    this.#options = options;
  }

  static async start(options: OriginalFleetOptions = {}): Promise<OriginalFleet> {
    const directory = mkdtempSync(join(tmpdir(), "walb-original-"));
    mkdirSync(join(directory, "bin"));
    for (const name of ["walbc", "walb-storage", "walb-proxy", "walb-archive", "wdevc"]) {
      symlinkSync(binary, join(directory, "bin", name));
    }
    const servers = async (kind: ServerKind, letter: string, count: number): Promise<Server[]> => {
      const list: Server[] = [];
      for (let i = 0; i < count; i++) {
        const name = `${letter}${i}`;
        const peerPort = options.peerPorts?.[name];
        list.push({ name, kind, port: await freePort(), ...(peerPort === undefined ? {} : { peerPort }) });
      }
      return list;
    };
    const layout: Layout = {
      storages: await servers("storage", "s", options.storages ?? 1),
      proxies: await servers("proxy", "p", options.proxies ?? 1),
      archives: await servers("archive", "a", options.archives ?? 1),
    };
    const fleet = new OriginalFleet(directory, layout, options);
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
