/** @module A proxy in a simulated world with archives behind it, and a host that plays the storage. */
import { expect } from "bun:test";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import type { ProxyOptions, RunningRole } from "../../src/control/role.ts";
import type { MemoryPool } from "../../src/native/memory.ts";
import { openProxy } from "../../src/proxy/server.ts";
import { watchedMemory } from "../../src/sim/memory.ts";
import { createSimWorld, type SimHost, type SimWorld } from "../../src/sim/sim.ts";
import { call, testLogger } from "../helpers/backup-path.ts";
import { FakeArchive } from "../helpers/fake-archive.ts";
import { logUuid, sendTestLog, type TestLog } from "../helpers/fake-storage.ts";
import type { TestIo } from "../helpers/wire.ts";

const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;
export const volume = "vol0";

/** Content of a test write: `sizeLb` blocks of a byte. */
export const io = (offsetLb: number, sizeLb: number, byte: number): TestIo => ({
  kind: "data",
  offsetLb,
  sizeLb,
  data: new Uint8Array(sizeLb * 512).fill(byte),
});

export class ProxyBench {
  readonly world: SimWorld;
  readonly host: SimHost;
  readonly source: SimHost;
  readonly archives: FakeArchive[] = [];
  readonly archiveHosts: SimHost[] = [];
  readonly expected: Uint8Array;
  readonly options: Partial<ProxyOptions>;
  proxy!: RunningRole;
  pools: MemoryPool[] = [];
  gid = 0n;

  constructor(
    seed: number,
    archives = 1,
    options: Partial<ProxyOptions> = {},
    readonly sizeLb = 4096,
  ) {
    this.world = createSimWorld(seed);
    this.options = options;
    this.host = this.world.host("p0", { memoryBytes: 256 * 1024 * 1024 });
    this.source = this.world.host("s0", { memoryBytes: 256 * 1024 * 1024 });
    this.expected = new Uint8Array(sizeLb * 512);
    for (let i = 0; i < archives; i++) {
      this.archiveHosts.push(this.world.host(`a${i}`, { memoryBytes: 256 * 1024 * 1024 }));
      const archive = new FakeArchive();
      const image = new Uint8Array(sizeLb * 512);
      Object.assign(archive, { state: "Archived", uuid: logUuid, image });
      this.archives.push(archive);
    }
  }

  get archive(): FakeArchive {
    return this.archives[0]!;
  }

  complete<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  async open(extra: readonly object[] = []): Promise<this> {
    await this.complete(async () => {
      for (const [i, archive] of this.archives.entries())
        await archive.open(this.archiveHosts[i]!.platform, tcp("", 10200));
      await this.openProxy();
      for (const i of this.archives.keys()) {
        await call(this.proxy, "add-archive", { volume, archiveName: `a${i}`, address: `a${i}:10200`, ...extra[i] });
      }
      await call(this.proxy, "start", { volume });
    });
    return this;
  }

  async openProxy(): Promise<void> {
    this.pools = [];
    const platform = watchedMemory(this.host.platform, this.pools);
    const where = { listen: tcp("", 10100), dataDir: "/proxy", nodeId: "p0", security: "insecure" } as const;
    this.proxy = await openProxy(platform, { ...where, ...this.options }, testLogger(platform));
  }

  async restart(): Promise<void> {
    if (this.host.isUp) this.host.kill();
    this.host.restart();
    await this.complete(() => this.openProxy());
  }

  /** Sends a log and enters it into what is expected. */
  async send(ios: readonly TestIo[], options: Partial<TestLog> = {}): Promise<void> {
    const log = { volume, fromGid: this.gid, toGid: this.gid + 1n, ios, sizeLb: this.sizeLb, ...options };
    await sendTestLog(this.source.platform, tcp("p0", 10100), log);
    this.gid = log.toGid;
    for (const one of ios) {
      const at = one.offsetLb * 512;
      if (one.kind === "data") this.expected.set(one.data!, at);
      if (one.kind === "discard") this.expected.fill(0, at, at + one.sizeLb * 512);
    }
  }

  async status(): Promise<ProxyStatus["volumes"][number]> {
    return (await this.complete(() => call<ProxyStatus>(this.proxy, "status", { volume }))).volumes[0]!;
  }

  async delivered(limitMs = 60_000, archives = this.archives): Promise<void> {
    await this.world.runUntil(() => archives.every((archive) => archive.latest.gidB >= this.gid), { limitMs });
    for (const archive of archives) expect(Buffer.compare(archive.image, this.expected)).toBe(0);
  }

  /** Diff files and temporaries at the proxy. */
  files(): string[] {
    return this.host.storage.paths().filter((path) => path.includes("/diffs/"));
  }

  get leasedBytes(): number {
    return this.pools.reduce((sum, pool) => sum + pool.leasedBytes, 0);
  }

  /** Nothing is left: files, leases, a state in between. */
  async expectClean(): Promise<void> {
    await this.world.run(1_000);
    expect(this.files()).toEqual([]);
    expect(this.leasedBytes).toBe(0);
    expect(this.source.platform.memory.leasedBytes).toBe(0);
    expect((await this.status()).state).toBe("Started");
  }
}
