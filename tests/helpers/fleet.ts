/** @module A fleet of real processes of the built binary, in one temporary directory, that can be killed and restarted. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const binary = resolve(import.meta.dir, "../../dist/walb");
export type Role = "device" | "archive" | "proxy" | "storage";

const readyMs = 15_000;

interface Running {
  readonly child: DaemonProcess;
}

/** Result of a verb. */
export interface VerbResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Environment without flags of walb. */
function cleanEnvironment(): Record<string, string> {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith("WALB_"));
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

export interface FleetOptions {
  /** More flags by role. */
  readonly flags?: Partial<Record<Role, readonly string[]>>;
  /** Data directories by role, e.g. on a small file system; default below the fleet's directory. */
  readonly data?: Partial<Record<Role, string>>;
  /** With a cluster key, listening on all addresses; the hosts know each other by one that is not loopback, if there is. */
  readonly isProtected?: boolean;
}

/** An address of this host that others could reach. */
function outerAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
}

/** Four daemons; every port is free when it starts. */
export class Fleet {
  readonly directory: string;
  readonly ports: Record<"archive" | "proxy" | "storage", number>;
  /** At which the daemons are reached. */
  readonly host: string;
  readonly #options: FleetOptions;
  readonly #running = new Map<Role, Running>();

  private constructor(directory: string, ports: Fleet["ports"], options: FleetOptions) {
    this.directory = directory;
    this.ports = ports;
    this.#options = options;
    this.host = options.isProtected === true ? outerAddress() : "127.0.0.1";
  }

  /** Makes the directory and the fleet file; starts all four. */
  static async start(options: FleetOptions = {}): Promise<Fleet> {
    const directory = mkdtempSync(join(tmpdir(), "walb-e2e-"));
    const ports = { archive: await freePort(), proxy: await freePort(), storage: await freePort() };
    const fleet = new Fleet(directory, ports, options);
    const names = { storage: "s0", proxy: "p0", archive: "a0" } as const;
    const servers = Object.entries(names).map(
      ([role, name]) =>
        `[servers.${name}]\nrole = "${role}"\naddress = "${fleet.host}:${ports[role as keyof typeof names]}"\n`,
    );
    if (options.isProtected === true) {
      servers.unshift('cluster-key = "cluster-key"\n');
      await runBinary(["key", "new", fleet.keyFile]);
    }
    writeFileSync(join(directory, "walb.toml"), servers.join("\n"));
    for (const role of ["device", "archive", "proxy", "storage"] as const) await fleet.run(role);
    return fleet;
  }

  get keyFile(): string {
    return this.path("cluster-key");
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  dataOf(role: Role): string {
    return this.#options.data?.[role] ?? this.path(role);
  }

  get nbdSocket(): string {
    return this.path("nbd.sock");
  }

  get controlSocket(): string {
    return join(this.dataOf("device"), "control.sock");
  }

  log(role: Role): string {
    const path = this.path(`${role}.log`);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** Process id of a running daemon. */
  pidOf(role: Role): number {
    const running = this.#running.get(role);
    if (running === undefined) throw new Error(`walb ${role} is not running`);
    return running.child.pid;
  }

  /** Starts one daemon and waits for its ready line. */
  async run(role: Role): Promise<void> {
    const { ports, host } = this;
    const own: Record<Role, string[]> = {
      device: ["--nbd", `unix:${this.nbdSocket}`],
      archive: ["--port", `${ports.archive}`, "--node", "a0"],
      proxy: ["--port", `${ports.proxy}`, "--node", "p0", "--retry-delay-max", "2s"],
      storage: [
        ...["--port", `${ports.storage}`, "--node", "s0", "--retry-delay-max", "2s"],
        ...["--archive", `${host}:${ports.archive}`, "--proxy", `${host}:${ports.proxy}`],
        ...["--device-socket", this.controlSocket],
      ],
    };
    const logPath = this.path(`${role}.log`);
    mkdirSync(this.directory, { recursive: true });
    const protection = this.#options.isProtected === true ? ["--cluster-key", this.keyFile] : [];
    if (protection.length > 0 && role !== "device") protection.push("--listen", "0.0.0.0");
    const words = [
      role,
      "--data",
      this.dataOf(role),
      ...own[role],
      ...protection,
      ...(this.#options.flags?.[role] ?? []),
    ];
    const child = spawnDaemon(words, logPath);
    this.#running.set(role, { child });
    await untilReady(child, role, logPath);
  }

  /** SIGKILL: nothing is flushed, nothing is said. */
  async kill(role: Role): Promise<void> {
    const running = this.#running.get(role);
    this.#running.delete(role);
    running?.child.kill("SIGKILL");
    await running?.child.exited;
  }

  /** SIGTERM; answers the exit code. */
  async stop(role: Role): Promise<number> {
    const running = this.#running.get(role);
    this.#running.delete(role);
    running?.child.kill("SIGTERM");
    return (await running?.child.exited) ?? 0;
  }

  /** Runs a verb of the binary against this fleet. */
  async verb(...args: string[]): Promise<VerbResult> {
    return runBinary(args, { WALB_FLEET: this.path("walb.toml") });
  }

  /** Runs a verb that must succeed. @returns its stdout. */
  async must(...args: string[]): Promise<string> {
    const { code, out, err } = await this.verb(...args);
    if (code !== 0) throw new Error(`walb ${args.join(" ")} ended with ${code}:\n${out}${err}`);
    return out;
  }

  /** Makes a device and puts it under backup. */
  async makeVolume(name: string, size: string, logSize: string): Promise<void> {
    const sizes = ["--size", size, "--log-size", logSize];
    await this.must("device", "create", name, ...sizes, "--device-data", this.dataOf("device"));
    await this.must("init", name, "--device", name);
  }

  /** Ends everything and removes the directory. */
  async close(): Promise<void> {
    for (const role of ["storage", "proxy", "archive", "device"] as const) await this.stop(role);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export type DaemonProcess = Bun.Subprocess<"ignore", "pipe", Bun.BunFile>;

/** Starts a daemon of the binary; its log goes to a file. */
export function spawnDaemon(words: readonly string[], logPath: string): DaemonProcess {
  return Bun.spawn([binary, ...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: Bun.file(logPath),
    env: cleanEnvironment(),
  });
}

/** Waits for the ready line of a daemon. */
export async function untilReady(child: DaemonProcess, name: string, logPath: string): Promise<void> {
  const timer = setTimeout(() => child.kill("SIGKILL"), readyMs);
  let text = "";
  const reader = child.stdout.getReader();
  while (!text.includes(" listening on ")) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`walb ${name} did not start:\n${readFileSync(logPath, "utf8")}`);
    text += new TextDecoder().decode(value);
  }
  clearTimeout(timer);
  void (async () => {
    while (!(await reader.read()).done) {
      // Kept open for as long as the daemon lives.
    }
  })();
}

/** Runs the binary to its end. */
export async function runBinary(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd?: string,
): Promise<VerbResult> {
  const child = Bun.spawn([binary, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...cleanEnvironment(), ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** Asks until the answer is there. */
export async function eventually<T>(what: string, limitMs: number, ask: () => Promise<T | undefined>): Promise<T> {
  const end = performance.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`${what} did not come within ${limitMs} ms`);
    await Bun.sleep(50);
  }
}

/**
 * A port that nobody listens on. It is none of those that the kernel gives out by itself: while a daemon is restarted, it
 * would give its port to another test.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (await canListen(port)) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
