/**
 * @module A fleet for procedures, of real processes: storages with their own devices, proxies, archives; every one can be
 * killed, lose its data, and come back. All volumes hold the same model unless something else is written to one.
 */
import { appendFileSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { archiveClient, proxyClient, storageClient } from "../../src/cli/servers.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { runIn } from "../cli/fleet-fixture.ts";
import { eventually, freePort } from "./fleet.ts";

const main = join(import.meta.dir, "../../src/main.ts");
const mib = 1 << 20;
const readyMs = 60_000;
const kinds = { d: "device", s: "storage", p: "proxy", a: "archive" } as const;
type Letter = keyof typeof kinds;

export interface VerbResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Daemons are named s0 s1 …, p0 …, a0 …; the device daemon of s0 is d0. */
export class ProcedureFleet {
  readonly directory = mkdtempSync(join(tmpdir(), "walb-procedures-"));
  readonly sizeBytes = 4 * mib;
  readonly #ports = new Map<string, number>();
  readonly #running = new Map<string, Bun.Subprocess>();
  readonly #platform: Platform = createPlatform({ memoryBudgetBytes: 64 * mib });
  readonly #random = new Seeded(23);
  readonly #nbd = new Map<string, NbdClient>();
  #restores = 0;

  static async start(names: readonly string[], tables = ""): Promise<ProcedureFleet> {
    const fleet = new ProcedureFleet();
    for (const name of names) fleet.#ports.set(name, await freePort());
    writeFileSync(
      fleet.path("walb.toml"),
      `# a fleet of tests\n${tables}\n${names.map((name) => fleet.#table(name)).join("")}`,
    );
    await Promise.all(names.filter((name) => name.startsWith("s")).map((name) => fleet.run(name.replace("s", "d"))));
    await Promise.all(names.map((name) => fleet.run(name)));
    return fleet;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  address(name: string): string {
    return `127.0.0.1:${this.#ports.get(name)}`;
  }

  /** Another server, known in the fleet file from now on. */
  async add(name: string): Promise<void> {
    this.#ports.set(name, await freePort());
    appendFileSync(this.path("walb.toml"), this.#table(name));
    if (name.startsWith("s")) await this.run(name.replace("s", "d"));
    await this.run(name);
  }

  #table(name: string): string {
    const primary = name === "a0" ? "primary = true\n" : "";
    return `[servers.${name}]\nrole = "${kinds[name[0] as Letter]}"\naddress = "${this.address(name)}"\n${primary}\n`;
  }

  /** Starts a daemon: storages with all proxies and the first archive there were at the beginning. */
  async run(name: string): Promise<void> {
    const kind = kinds[name[0] as Letter];
    const proxies = [...this.#ports.keys()].filter((known) => /^p[01]$/.test(known));
    const own = {
      device: ["--nbd", `unix:${this.path(`${name}.nbd`)}`],
      storage: [
        ...["--archive", this.address("a0"), "--proxy", proxies.map((proxy) => this.address(proxy)).join()],
        ...["--device-socket", this.path(`${name.replace("s", "d")}/control.sock`), "--retry-delay-max", "1s"],
        ...["--snapshot-interval", "1s"],
      ],
      proxy: ["--retry-delay-max", "1s"],
      archive: [],
    }[kind];
    const port = kind === "device" ? [] : ["--port", `${this.#ports.get(name)}`];
    const words = [kind, "--data", this.path(name), "--node", name, ...port, ...own];
    const child = Bun.spawn([process.execPath, main, ...words], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: Bun.file(this.path(`${name}.log`)),
    });
    this.#running.set(name, child);
    const timer = setTimeout(() => child.kill("SIGKILL"), readyMs);
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    clearTimeout(timer);
    if (!new TextDecoder().decode(value).includes("listening on")) {
      throw new Error(`${name} did not start: ${readFileSync(this.path(`${name}.log`), "utf8")}`);
    }
    reader.releaseLock();
  }

  /** SIGKILL. */
  async kill(name: string): Promise<void> {
    const child = this.#running.get(name);
    this.#running.delete(name);
    child?.kill("SIGKILL");
    await child?.exited;
  }

  isRunning(name: string): boolean {
    const child = this.#running.get(name);
    return child !== undefined && child.exitCode === null;
  }

  async exited(name: string): Promise<number> {
    const code = await this.#running.get(name)!.exited;
    this.#running.delete(name);
    return code;
  }

  signal(name: string, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#running.get(name)?.kill(signal);
  }

  /** Takes a server out of the fleet file. */
  takeOut(name: string): void {
    const file = this.path("walb.toml");
    const table = new RegExp(`\\[servers\\.${name}\\][^\\[]*`);
    writeFileSync(file, readFileSync(file, "utf8").replace(table, ""));
  }

  /** Kills it and deletes its data. */
  async lose(name: string): Promise<void> {
    await this.kill(name);
    rmSync(this.path(name), { recursive: true, force: true });
  }

  /** Moves the data of a server that does not run. */
  rename(from: string, to: string): void {
    renameSync(this.path(from), this.path(to));
  }

  verb(line: string, signal?: AbortSignal): Promise<VerbResult> {
    return runIn(this.directory, line.split(" "), signal === undefined ? {} : { signal });
  }

  /** A verb that must succeed. @returns what it said, on both ways. */
  async must(line: string): Promise<string> {
    const { code, out, err } = await this.verb(line);
    if (code !== 0) throw new Error(`walb ${line} ended with ${code}:\n${out}${err}`);
    return err + out;
  }

  async makeDevice(storage: string, name: string, logSize = "4M"): Promise<void> {
    const data = this.path(storage.replace("s", "d"));
    await this.must(`device create ${name} --size 4M --log-size ${logSize} --device-data ${data} --json`);
  }

  /** Writes noise at random places of a volume. The model is told when it is given. */
  async write(storage: string, name: string, model: Buffer, count = 8): Promise<void> {
    for (let i = 0; i < count; i++) {
      const length = 4096 * (1 + this.#random.below(8));
      const offset = 4096 * this.#random.below((this.sizeBytes - length) / 4096);
      await this.writeAt(storage, name, model, offset, this.#random.noise(length));
    }
  }

  async writeAt(storage: string, name: string, model: Buffer, offset: number, data: Uint8Array): Promise<void> {
    const key = `${storage}/${name}`;
    let nbd = this.#nbd.get(key);
    if (nbd === undefined) {
      const path = this.path(`${storage.replace("s", "d")}.nbd`);
      nbd = await NbdClient.connect(this.#platform.net, { kind: "unix", path }, name);
      this.#nbd.set(key, nbd);
    }
    await nbd.write(offset, data);
    await nbd.flush();
    model.set(data, offset);
  }

  /** Ends the connection to a volume, as a host that is restarted does. */
  disconnect(storage: string, name: string): void {
    this.#nbd.get(`${storage}/${name}`)?.close();
    this.#nbd.delete(`${storage}/${name}`);
  }

  noise(length: number): Uint8Array {
    return this.#random.noise(length);
  }

  /** Takes a snapshot and waits until an archive can restore it. @returns its gid. */
  async snapshot(volume: string, archive = "a0", storage?: string): Promise<number> {
    const at = storage === undefined ? "" : ` --server ${storage}`;
    const { gid } = JSON.parse((await this.verbOut(`snapshot ${volume} --json${at}`)).trim()) as { gid: number };
    await this.restorable(archive, volume, gid);
    return gid;
  }

  async verbOut(line: string): Promise<string> {
    const { code, out, err } = await this.verb(line);
    if (code !== 0) throw new Error(`walb ${line} ended with ${code}:\n${out}${err}`);
    return out;
  }

  async restorable(archive: string, volume: string, gid: number): Promise<void> {
    await eventually(`gid ${gid} of ${volume} at ${archive}`, 60_000, async () =>
      (await this.newestGid(archive, volume)) >= gid ? true : undefined,
    );
  }

  async newestGid(archive: string, volume: string): Promise<number> {
    const { volumes } = await this.archive(archive).call("status", { volume });
    return Number(volumes[0]?.newestPoint?.gid ?? -1);
  }

  archive = (name: string) => archiveClient({ name, address: this.address(name) });
  proxy = (name: string) => proxyClient({ name, address: this.address(name) });
  storage = (name: string) => storageClient({ name, address: this.address(name) });

  async stateAt(name: string, volume: string): Promise<string> {
    const answer =
      name[0] === "s"
        ? await this.storage(name).call("status", { volume })
        : name[0] === "p"
          ? await this.proxy(name).call("status", { volume })
          : await this.archive(name).call("status", { volume });
    return answer.volumes[0]?.state ?? "Clear";
  }

  /** Archives that a proxy feeds. */
  async fed(proxy: string, volume: string): Promise<string[]> {
    const { volumes } = await this.proxy(proxy).call("status", { volume });
    return volumes[0]!.archives.map(({ archiveName }) => archiveName).sort();
  }

  /** Restores a snapshot and compares it with what it must be. @throws where it differs. */
  async mustEqual(archive: string, volume: string, gid: number, model: Buffer): Promise<void> {
    const to = this.path(`restored-${this.#restores++}.img`);
    await this.must(`restore ${volume} --server ${archive} --snapshot ${gid} --to ${to}`);
    const expected = this.path("expected.img");
    writeFileSync(expected, model);
    const difference = await firstDifference(expected, to);
    rmSync(to);
    if (difference !== undefined) throw new Error(`${volume} at ${archive}, gid ${gid}: differs at byte ${difference}`);
  }

  log(name: string): string {
    return existsSync(this.path(`${name}.log`)) ? readFileSync(this.path(`${name}.log`), "utf8") : "";
  }

  async close(): Promise<void> {
    for (const nbd of this.#nbd.values()) nbd.close();
    for (const child of this.#running.values()) child.kill("SIGKILL");
    await Promise.all([...this.#running.values()].map((child) => child.exited));
    await closePlatform(this.#platform);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
