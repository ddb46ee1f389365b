/**
 * @module A site of real processes: a device, a storage, proxies and archives, with a relay on every way between them; and a
 * volume whose content is known at every snapshot.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import {
  type ArchiveClient,
  archiveClient,
  type ProxyClient,
  proxyClient,
  type StorageClient,
  storageClient,
} from "../../src/cli/servers.ts";
import type { ProxyVolume } from "../../src/control/proxy.ts";
import type { StorageVolume } from "../../src/control/storage.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { type DaemonProcess, eventually, freePort, runBinary, spawnDaemon, untilReady } from "./fleet.ts";
import { Relay } from "./relay.ts";

export const volume = "vol0";
const mib = 1 << 20;

export interface SiteOptions {
  readonly proxies?: number;
  readonly archives?: number;
  readonly sizeBytes?: number;
  /** More flags of a daemon, by name (`s0`, `p1`) or kind (`storage`). */
  readonly flags?: Readonly<Record<string, readonly string[]>>;
}

/** All of it; daemons are named d0, s0, p0 …, a0 …. */
export class Site {
  readonly directory = mkdtempSync(join(tmpdir(), "walb-site-"));
  readonly model: Buffer;
  /** From the storage to each proxy. */
  readonly toProxy: Relay[] = [];
  /** From each proxy to each archive. */
  readonly toArchive: Relay[][] = [];
  readonly #options: SiteOptions;
  readonly #platform: Platform = createPlatform({ memoryBudgetBytes: 64 * mib });
  readonly #ports = new Map<string, number>();
  readonly #running = new Map<string, DaemonProcess>();
  readonly #random = new Seeded(11);
  readonly #points: { readonly gid: bigint; readonly path: string }[] = [];
  #nbd: NbdClient | undefined;

  private constructor(options: SiteOptions) {
    this.#options = options;
    this.model = Buffer.alloc(options.sizeBytes ?? 16 * mib);
  }

  /** Starts everything and takes the first backup; all archives have it. */
  static async start(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(options);
    try {
      await site.#start();
      return site;
    } catch (error) {
      await site.close();
      throw error;
    }
  }

  get storage(): StorageClient {
    return storageClient({ name: "s0", address: `127.0.0.1:${this.#ports.get("s0")}` });
  }

  proxy(i = 0): ProxyClient {
    return proxyClient({ name: `p${i}`, address: `127.0.0.1:${this.#ports.get(`p${i}`)}` });
  }

  archive(i = 0): ArchiveClient {
    return archiveClient({ name: `a${i}`, address: `127.0.0.1:${this.#ports.get(`a${i}`)}` });
  }

  async storageVolume(): Promise<StorageVolume> {
    return (await this.storage.call("status", { volume })).volumes[0]!;
  }

  async proxyVolume(i = 0): Promise<ProxyVolume> {
    return (await this.proxy(i).call("status", { volume })).volumes[0]!;
  }

  /** Newest gid that an archive can restore, or -1. */
  async newestGid(i = 0): Promise<bigint> {
    return (await this.archive(i).call("status", { volume })).volumes[0]?.newestPoint?.gid ?? -1n;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  log(name: string): string {
    const path = this.path(`${name}.log`);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** Starts a daemon that does not run. */
  async run(name: string): Promise<void> {
    const { flags = {} } = this.#options;
    const kind = { d: "device", s: "storage", p: "proxy", a: "archive" }[name[0]!]!;
    const port = ["--port", `${this.#ports.get(name)}`, "--node", name];
    const own: Record<string, string[]> = {
      device: ["--nbd", `unix:${this.path("nbd.sock")}`],
      storage: [
        ...["--archive", `127.0.0.1:${this.#ports.get("a0")}`, "--retry-delay-max", "2s"],
        ...this.toProxy.flatMap((relay) => ["--proxy", `127.0.0.1:${relay.port}`]),
        ...["--device-socket", this.path("d0/control.sock")],
      ],
      proxy: ["--retry-delay-max", "2s"],
      archive: [],
    };
    const words = [kind, "--data", this.path(name), ...(kind === "device" ? [] : port), ...own[kind]!];
    const logPath = this.path(`${name}.log`);
    const child = spawnDaemon([...words, ...(flags[kind] ?? []), ...(flags[name] ?? [])], logPath);
    this.#running.set(name, child);
    await untilReady(child, name, logPath);
  }

  /** Ends a daemon: SIGKILL, or SIGTERM. */
  async end(name: string, signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    const child = this.#running.get(name);
    this.#running.delete(name);
    child?.kill(signal);
    await child?.exited;
  }

  /** Halts a daemon in whatever it does, or lets it go on. */
  signal(name: string, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#running.get(name)!.kill(signal);
  }

  /** Writes noise, zeroes and holes at random; all is in the model when it returns. */
  async write(count: number): Promise<void> {
    const nbd = await this.#connected();
    for (let i = 0; i < count; i++) {
      const length = 4096 * (1 + this.#random.below(16));
      const offset = 4096 * this.#random.below((this.model.length - length) / 4096);
      const what = this.#random.below(10);
      if (what === 0) {
        await nbd.trim(offset, length);
        this.model.fill(0, offset, offset + length);
        continue;
      }
      const data = what === 1 ? Buffer.alloc(length) : this.#random.noise(length);
      await nbd.write(offset, data);
      this.model.set(data, offset);
    }
  }

  /** Takes a snapshot while nothing is written, and remembers what the volume is. */
  async snapshot(): Promise<bigint> {
    const { gid } = await this.storage.call("snapshot", { volume });
    this.#remember(gid);
    return gid;
  }

  /** Waits until an archive can restore a gid. */
  async arrived(gid: bigint, i = 0, limitMs = 60_000): Promise<void> {
    await eventually(`snapshot ${gid} at a${i}`, limitMs, async () =>
      (await this.newestGid(i)) >= gid ? true : undefined,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log("s0")}\n${this.log("p0")}\n${this.log(`a${i}`)}`);
    });
  }

  /** Restores every snapshot that was taken, and compares. @returns how many. */
  async verify(i = 0): Promise<number> {
    const newest = await this.newestGid(i);
    let count = 0;
    for (const { gid, path } of this.#points) {
      if (gid > newest) continue;
      const to = this.path(`restored-${i}-${gid}`);
      const words = ["restore", volume, "--server", `a${i}`, "--snapshot", `${gid}`, "--to", to];
      const { code, out, err } = await runBinary(words, { WALB_FLEET: this.path("walb.toml") });
      if (code !== 0) throw new Error(`walb ${words.join(" ")} ended with ${code}:\n${out}${err}`);
      const difference = await firstDifference(path, to);
      if (difference !== undefined) throw new Error(`a${i}: snapshot ${gid} differs at ${JSON.stringify(difference)}`);
      rmSync(to);
      count += 1;
    }
    return count;
  }

  async close(): Promise<void> {
    this.#nbd?.close();
    for (const name of [...this.#running.keys()]) await this.end(name, "SIGKILL");
    for (const relay of [...this.toProxy, ...this.toArchive.flat()]) relay.close();
    await closePlatform(this.#platform);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #remember(gid: bigint): void {
    const path = this.path(`model-${gid}`);
    writeFileSync(path, this.model);
    this.#points.push({ gid, path });
  }

  async #connected(): Promise<NbdClient> {
    this.#nbd ??= await NbdClient.connect(this.#platform.net, { kind: "unix", path: this.path("nbd.sock") }, volume);
    return this.#nbd;
  }

  async #start(): Promise<void> {
    const { proxies = 1, archives = 1 } = this.#options;
    const names = [...Array.from({ length: proxies }, (_, i) => `p${i}`), "s0"];
    const archiveNames = Array.from({ length: archives }, (_, i) => `a${i}`);
    for (const name of [...archiveNames, ...names]) this.#ports.set(name, await freePort());
    this.#writeFleetFile();
    for (let p = 0; p < proxies; p++) {
      this.toProxy.push(await Relay.start(this.#ports.get(`p${p}`)!));
      this.toArchive.push([]);
      for (const name of archiveNames) this.toArchive[p]!.push(await Relay.start(this.#ports.get(name)!));
    }
    await Promise.all(["d0", "a0", ...names].map((name) => this.run(name)));
    const sizes = ["--size", `${this.model.length}`, "--log-size", "64M", "--device-data", this.path("d0")];
    const made = await runBinary(["device", "create", volume, ...sizes]);
    if (made.code !== 0) throw new Error(made.err);
    await this.archive().call("init", { volume });
    for (let p = 0; p < proxies; p++) {
      const address = `127.0.0.1:${this.toArchive[p]![0]!.port}`;
      await this.proxy(p).call("add-archive", { volume, archiveName: "a0", address });
      await this.proxy(p).call("start", { volume });
    }
    await this.storage.call("init", { volume, device: { kind: "user", name: volume } });
    await this.write(40);
    const backup = await runBinary(["backup", volume, "--wait", "--json"], { WALB_FLEET: this.path("walb.toml") });
    if (backup.code !== 0) throw new Error(backup.err);
    this.#remember(BigInt((JSON.parse(backup.out) as { gid: number }).gid));
    for (let a = 1; a < archives; a++) await this.#copyArchive(a);
  }

  /** A further archive begins as a copy of the first. */
  async #copyArchive(a: number): Promise<void> {
    await this.end("a0", "SIGTERM");
    cpSync(this.path("a0"), this.path(`a${a}`), { recursive: true });
    rmSync(this.path(`a${a}/walb.lock`), { force: true });
    await this.run("a0");
    await this.run(`a${a}`);
    for (const [p, relays] of this.toArchive.entries()) {
      const client = this.proxy(p);
      await client.call("stop", { volume, mode: "graceful" });
      await client.call("add-archive", { volume, archiveName: `a${a}`, address: `127.0.0.1:${relays[a]!.port}` });
      await client.call("start", { volume });
    }
  }

  #writeFleetFile(): void {
    const kinds = { s: "storage", p: "proxy", a: "archive" } as const;
    const text = [...this.#ports].map(([name, port]) => {
      const kind = kinds[name[0] as keyof typeof kinds];
      const isPrimary = name === "a0" ? "primary = true\n" : "";
      return `[servers.${name}]\nrole = "${kind}"\naddress = "127.0.0.1:${port}"\n${isPrimary}`;
    });
    mkdirSync(this.directory, { recursive: true });
    writeFileSync(this.path("walb.toml"), text.join("\n"));
  }
}
