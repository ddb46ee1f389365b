/** @module `walb up`: device, storage, proxy and archive in one process; or only what a host with volumes needs. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join, relative, resolve } from "node:path";
import type { WalbError } from "../../errors.ts";
import { type Address, addressText } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { mib } from "../../units.ts";
import { freePort } from "../demo/daemons.ts";
import { asAddress, asInt, asPath, list, option, optionOr } from "../flags.ts";
import { defineVerb, type Io } from "../verb.ts";
import { type DaemonContext, daemonFlags, given, runDaemon } from "./common.ts";

/** Each role has memory of its own, as if it were a process. */
const roleMemoryBytes = 192 * mib;
const ports = { storage: 10_000, proxy: 10_100, archive: 10_200 } as const;
const host = "127.0.0.1";

export const verb = defineVerb({
  summary: "Runs everything on one machine, in one process: device, storage, proxy and archive",
  description:
    "For a first look, and for one machine that is to keep backups of its own volumes on another disk. Writes a fleet " +
    "file that all verbs find: walb.toml here, unless there is one. With --archive and --proxy it runs only device and " +
    "storage, and ships to those; the daemons listen on loopback.",
  flags: {
    data: optionOr("DIR", "everything it keeps", asPath, "./walb-data"),
    archive: option("HOST:PORT", "an archive that runs elsewhere, instead of one of its own", asAddress),
    proxy: list("HOST:PORT", "proxies that run elsewhere, instead of one of its own", asAddress),
    port: option("PORT", "of the storage; default 10000, or a free one", asInt(0, 65535)),
    ...daemonFlags,
  },
  examples: ["walb up", "walb up --data /srv/walb", "walb up --archive backup1:10200 --proxy relay1:10100"],
  async run({ flags, io }) {
    const dataDir = resolve(io.cwd, flags.data);
    mkdirSync(dataDir, { recursive: true });
    return runDaemon("up", { ...flags, "cluster-key": undefined, "tls-name": [] }, io, async (context) => {
      const up = new Up(dataDir, flags.node ?? hostname(), context);
      try {
        await up.open(flags);
      } catch (error) {
        await up.close("force");
        throw error;
      }
      const fleetFlag = writeFleet(dataDir, up, io);
      const device = join(relative(io.cwd, dataDir) || ".", "device");
      context.afterReady(
        `next: walb init vol0 --size 1G --device-data ${device}${fleetFlag}\n` +
          `  (in another terminal; --data PATH instead of --size takes a disk or file with its content)\n`,
      );
      return { addresses: up.addresses, close: (mode) => up.close(mode) };
    });
  },
});

interface UpFlags {
  readonly archive: Address | undefined;
  readonly proxy: readonly Address[];
  readonly port: number | undefined;
}

/** What runs in the process. */
class Up {
  readonly addresses: Address[] = [];
  /** Of the fleet file. */
  readonly servers: { readonly name: string; readonly role: keyof typeof ports; readonly address: string }[] = [];
  readonly #dataDir: string;
  readonly #nodeId: string;
  readonly #context: DaemonContext;
  readonly #closing: ((mode: "graceful" | "force") => Promise<void>)[] = [];

  constructor(dataDir: string, nodeId: string, context: DaemonContext) {
    this.#dataDir = dataDir;
    this.#nodeId = nodeId;
    this.#context = context;
  }

  async open({ archive, proxy, port }: UpFlags): Promise<void> {
    await this.#openDevice();
    const toArchive = archive ?? (await this.#openArchive());
    if (archive !== undefined) this.#knows("archive", "a0", archive);
    const toProxies = proxy.length > 0 ? [...proxy] : [await this.#openProxy()];
    for (const [i, address] of proxy.entries()) this.#knows("proxy", `p${i}`, address);
    const { openStorage } = await import("../../storage/server.ts");
    const storage = await openStorage(
      this.#platform(),
      {
        ...(await this.#options("storage", port)),
        archive: toArchive,
        proxies: toProxies,
        deviceSocket: join(this.#dataDir, "device/control.sock"),
      },
      this.#context.log,
    );
    this.#opened("storage", "s0", storage);
  }

  /** Senders first. */
  async close(mode: "graceful" | "force"): Promise<void> {
    for (const close of this.#closing.splice(0).reverse()) await close(mode);
  }

  async #openDevice(): Promise<void> {
    const { openDeviceDaemon } = await import("../../device/user/daemon.ts");
    const dataDir = join(this.#dataDir, "device");
    const { log } = this.#context;
    const device = await openDeviceDaemon(this.#platform(), {
      dataDir,
      nbdListeners: [{ kind: "unix", path: join(dataDir, "nbd.sock") }],
      nodeId: this.#nodeId,
      onProblem: (error: WalbError) => log.warn(error.message, error.hint === undefined ? {} : { hint: error.hint }),
    });
    this.#closing.push(() => device.close());
    this.addresses.push(...device.nbdAddresses);
  }

  async #openArchive(): Promise<Address> {
    const { openArchive } = await import("../../archive/server.ts");
    const server = await openArchive(this.#platform(), await this.#options("archive"), this.#context.log);
    return this.#opened("archive", "a0", server);
  }

  async #openProxy(): Promise<Address> {
    const { openProxy } = await import("../../proxy/server.ts");
    const server = await openProxy(this.#platform(), await this.#options("proxy"), this.#context.log);
    return this.#opened("proxy", "p0", server);
  }

  async #options(role: keyof typeof ports, port?: number) {
    return {
      ...this.#context.role,
      listen: { kind: "tcp", host, port: port ?? (await freePort(ports[role])) } as const,
      dataDir: join(this.#dataDir, role),
      nodeId: `${this.#nodeId}-${role}`,
      security: "loopback" as const,
    };
  }

  #opened(
    role: keyof typeof ports,
    name: string,
    server: { readonly address: Address; close(mode: "graceful" | "force"): Promise<void> },
  ): Address {
    this.#closing.push((mode) => server.close(mode));
    this.addresses.push(server.address);
    this.#knows(role, name, server.address);
    return server.address;
  }

  #knows(role: keyof typeof ports, name: string, address: Address): void {
    this.servers.push({ name, role, address: addressText(address) });
  }

  #platform(): Platform {
    const platform = createPlatform({ memoryBudgetBytes: roleMemoryBytes, ...given("threads", 2) });
    this.#closing.push(() => closePlatform(platform));
    return platform;
  }
}

/** Writes the fleet file. @returns the flag that verbs need to find it, if they do. */
function writeFleet(dataDir: string, { servers }: Up, io: Io): string {
  const head = "# written by walb up; your own changes stay in a walb.toml that walb up did not write\n";
  const tables = servers.map(
    ({ name, role, address }) => `[servers.${name}]\nrole = "${role}"\naddress = "${address}"\n`,
  );
  const text = `${head}\n${tables.join("\n")}`;
  const own = join(dataDir, "walb.toml");
  writeFileSync(own, text);
  const here = resolve(io.cwd, "walb.toml");
  if (here === own) return "";
  if (existsSync(here)) return ` --fleet ${relative(io.cwd, own)}`;
  writeFileSync(here, text);
  return "";
}
