/**
 * @module A stand-in for the original's Python library: what its controller does, by running `walbc` as its own process
 * for every question. Written from the published behaviour of the library; names are those of its methods.
 */

const shortTimeoutMs = 100_000;

export type ServerKind = "storage" | "proxy" | "archive";

/** A daemon as the controller reaches it. */
export interface Server {
  readonly name: string;
  readonly kind: ServerKind;
  readonly port: number;
  /** Where a peer reaches it, when that is not the port itself (through a relay). */
  readonly peerPort?: number;
}

/** All daemons; the first archive is the primary one. */
export interface Layout {
  readonly storages: readonly Server[];
  readonly proxies: readonly Server[];
  readonly archives: readonly Server[];
}

/** Result of one `walbc`. */
export interface ControlResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** How a proxy sends to an archive. */
export interface SyncOptions {
  readonly compression?: string;
  readonly delayS?: number;
}

const aActive = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"];
const aDuringReplicate = ["ReplSyncAsServer", "FullSync", "Resync"];
const duringSync = ["FullSync", "HashSync", "Stopped", "StartTarget"];

/** One line of `get restorable`. */
export interface GidInfo {
  readonly gid: number;
  readonly time: string;
  readonly isExplicit: boolean;
}

/** The controller. */
export class Controller {
  protected readonly pollMs: number = 100;

  constructor(
    readonly walbc: string,
    public layout: Layout,
  ) {}

  get primary(): Server {
    return this.layout.archives[0]!;
  }

  get all(): readonly Server[] {
    return [...this.layout.storages, ...this.layout.proxies, ...this.layout.archives];
  }

  /** Runs walbc; never throws. */
  async run(server: Server, ...words: string[]): Promise<ControlResult> {
    const child = Bun.spawn([this.walbc, ...this.wordsFor(server, words)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, out, err };
  }

  protected wordsFor(server: Server, words: readonly string[]): string[] {
    return ["-id", "ctl", "-a", "127.0.0.1", "-p", `${server.port}`, ...words];
  }

  /** Runs walbc, which must succeed. @returns its output without the space around it. */
  async ctl(server: Server, ...words: string[]): Promise<string> {
    const { code, out, err } = await this.run(server, ...words);
    if (code !== 0) throw new Error(`walbc ${server.name} ${words.join(" ")} ended with ${code}:\n${out}${err}`);
    return out.trim();
  }

  async lines(server: Server, ...words: string[]): Promise<string[]> {
    const out = await this.ctl(server, ...words);
    return out === "" ? [] : out.split("\n");
  }

  getState(server: Server, volume: string): Promise<string> {
    return this.ctl(server, "get", "state", volume);
  }

  getHostType(server: Server): Promise<string> {
    return this.ctl(server, "get", "host-type");
  }

  volumes(server: Server): Promise<string[]> {
    return this.lines(server, "get", "vol");
  }

  async verifyState(server: Server, volume: string, state: string): Promise<void> {
    const found = await this.getState(server, volume);
    if (found !== state) throw new Error(`${server.name} ${volume} is ${found}, not ${state}`);
  }

  /** Asks until it is so. */
  async waitUntil(what: string, timeoutMs: number, isSo: () => Promise<boolean>): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while (!(await isSo())) {
      if (performance.now() > endMs) throw new Error(`${what}: timed out after ${timeoutMs} ms`);
      await Bun.sleep(this.pollMs);
    }
  }

  waitForState(server: Server, volume: string, states: readonly string[], timeoutMs = shortTimeoutMs): Promise<void> {
    return this.waitUntil(`${server.name} ${volume} ${states.join("|")}`, timeoutMs, async () =>
      states.includes(await this.getState(server, volume)),
    );
  }

  async waitForNotState(server: Server, volume: string, states: readonly string[], timeoutMs = shortTimeoutMs) {
    await this.waitUntil(`${server.name} ${volume} not ${states.join("|")}`, timeoutMs, async () => {
      return !states.includes(await this.getState(server, volume));
    });
  }

  async numAction(archive: Server, volume: string, action: string): Promise<number> {
    return Number(await this.ctl(archive, "get", "num-action", volume, action));
  }

  waitForNoAction(archive: Server, volume: string, action: string, timeoutMs = shortTimeoutMs): Promise<void> {
    return this.waitUntil(`${archive.name} ${volume} no ${action}`, timeoutMs, async () => {
      return (await this.numAction(archive, volume, action)) === 0;
    });
  }

  async isOverflow(storage: Server, volume: string): Promise<boolean> {
    return (await this.ctl(storage, "get", "is-overflow", volume)) === "1";
  }

  async isWdiffSendError(proxy: Server, volume: string, archive: Server): Promise<boolean> {
    return (await this.ctl(proxy, "get", "is-wdiff-send-error", volume, archive.name)) === "1";
  }

  getUuid(server: Server, volume: string): Promise<string> {
    return this.ctl(server, "get", "uuid", volume);
  }

  getArchiveUuid(archive: Server, volume: string): Promise<string> {
    return this.ctl(archive, "get", "archive-uuid", volume);
  }

  getBase(archive: Server, volume: string): Promise<string> {
    return this.ctl(archive, "get", "base", volume);
  }

  async getVolumeSizeLb(archive: Server, volume: string): Promise<number> {
    return Number(await this.ctl(archive, "get", "vol-size", volume));
  }

  /** Waits until a storage has shipped all that its device's log has. */
  async waitForLogEmpty(storage: Server, volume: string, timeoutMs = shortTimeoutMs): Promise<void> {
    await this.waitUntil(`${storage.name} ${volume} log empty`, timeoutMs, async () => {
      return (await this.lines(storage, "status", volume)).includes("logUsagePb 0");
    });
  }

  // --- starting, stopping, clearing ---

  async start(server: Server, volume: string): Promise<void> {
    if (server.kind === "storage") {
      await this.ctl(server, "start", volume, "target");
      await this.waitForState(server, volume, ["Target"]);
      return;
    }
    await this.ctl(server, "start", volume);
    const states = server.kind === "proxy" ? ["Started", "WlogRecv"] : aActive;
    await this.waitForState(server, volume, states);
  }

  async stop(server: Server, volume: string, mode: "graceful" | "force" | "empty" = "graceful"): Promise<void> {
    const before = await this.getState(server, volume);
    await this.ctl(server, "stop", volume, mode);
    const isReady = server.kind === "storage" && (before === "Standby" || before === "SyncReady");
    await this.waitForState(server, volume, [isReady ? "SyncReady" : "Stopped"]);
  }

  async reset(server: Server, volume: string): Promise<void> {
    await this.ctl(server, "reset-vol", volume);
    await this.waitForState(server, volume, ["SyncReady"]);
  }

  async clear(server: Server, volume: string): Promise<void> {
    const state = await this.getState(server, volume);
    if (state === "Clear") return;
    if (["Target", "Standby", "Started", "WlogRecv", ...aActive].includes(state)) {
      await this.stop(server, volume, "force");
    }
    if (server.kind === "storage" && (await this.getState(server, volume)) === "Stopped") {
      await this.reset(server, volume);
    }
    await this.ctl(server, "clear-vol", volume);
    await this.verifyState(server, volume, "Clear");
  }

  async initStorage(storage: Server, volume: string, devicePath: string): Promise<void> {
    await this.ctl(storage, "init-vol", volume, devicePath);
    await this.ctl(storage, "start", volume, "standby");
    await this.waitForState(storage, volume, ["Standby"]);
  }

  async goStandby(storage: Server, volume: string): Promise<void> {
    const state = await this.getState(storage, volume);
    if (state === "Standby") return;
    if (state !== "SyncReady") {
      if (state !== "Target") throw new Error(`${storage.name} ${volume} is ${state}`);
      await this.stop(storage, volume, "force");
      await this.stopSynchronizing(this.primary, volume);
      await this.reset(storage, volume);
    }
    await this.ctl(storage, "start", volume, "standby");
    await this.waitForState(storage, volume, ["Standby"]);
  }

  async shutdown(server: Server, mode: "graceful" | "force" = "graceful"): Promise<void> {
    await this.ctl(server, "shutdown", mode);
  }

  // --- proxies and archives ---

  archiveInfoList(proxy: Server, volume: string): Promise<string[]> {
    return this.lines(proxy, "archive-info", "list", volume);
  }

  archiveInfo(proxy: Server, volume: string, archive: Server): Promise<string> {
    return this.ctl(proxy, "archive-info", "get", volume, archive.name);
  }

  async addArchive(proxy: Server, volume: string, archive: Server, sync: SyncOptions = {}): Promise<void> {
    if (["Started", "WlogRecv"].includes(await this.getState(proxy, volume))) await this.stop(proxy, volume, "force");
    const names = await this.archiveInfoList(proxy, volume);
    const verb = names.includes(archive.name) ? "update" : "add";
    const address = `127.0.0.1:${archive.peerPort ?? archive.port}`;
    const options = [sync.compression ?? "snappy:0:1", `${sync.delayS ?? 0}`];
    await this.ctl(proxy, "archive-info", verb, volume, archive.name, address, ...options);
    await this.start(proxy, volume);
  }

  async removeArchive(proxy: Server, volume: string, archive: Server, isEmptied = false): Promise<void> {
    if (["Started", "WlogRecv"].includes(await this.getState(proxy, volume))) {
      await this.stop(proxy, volume, isEmptied ? "empty" : "force");
    }
    if ((await this.archiveInfoList(proxy, volume)).includes(archive.name)) {
      await this.ctl(proxy, "archive-info", "delete", volume, archive.name);
    }
    if ((await this.getState(proxy, volume)) === "Stopped") await this.start(proxy, volume);
  }

  async copyArchiveInfo(from: Server, volume: string, to: Server): Promise<void> {
    for (const name of await this.archiveInfoList(from, volume)) {
      const archive = this.layout.archives.find((known) => known.name === name);
      if (archive === undefined) continue;
      const [, compression, delay] = (await this.archiveInfo(from, volume, archive)).split(" ");
      await this.addArchive(to, volume, archive, { compression: compression!, delayS: Number(delay) });
    }
  }

  async isSynchronizing(archive: Server, volume: string): Promise<boolean> {
    const known = await Promise.all(
      this.layout.proxies.map(async (proxy) => (await this.archiveInfoList(proxy, volume)).includes(archive.name)),
    );
    if (known.every(Boolean)) return true;
    if (!known.some(Boolean)) return false;
    throw new Error(`${archive.name} ${volume} is known to some of the proxies only`);
  }

  async startSynchronizing(archive: Server, volume: string, sync: SyncOptions = {}): Promise<void> {
    for (const proxy of this.layout.proxies) await this.addArchive(proxy, volume, archive, sync);
    await this.kickAll(this.layout.storages);
  }

  async stopSynchronizing(archive: Server, volume: string): Promise<void> {
    for (const proxy of this.layout.proxies) await this.removeArchive(proxy, volume, archive);
    await this.kickAll(this.layout.storages);
  }

  async kickAll(servers: readonly Server[] = [...this.layout.storages, ...this.layout.proxies]): Promise<void> {
    for (const server of servers) await this.ctl(server, "kick");
  }

  // --- backups and snapshots ---

  async getRestorable(archive: Server, volume: string, isAll = false): Promise<GidInfo[]> {
    const lines = await this.lines(archive, "get", "restorable", volume, ...(isAll ? ["all"] : []));
    return lines.map((line) => {
      const [gid, time, explicit] = line.split(" ");
      return { gid: Number(gid), time: time!, isExplicit: explicit === "1" };
    });
  }

  async restorableGids(archive: Server, volume: string, isAll = false): Promise<number[]> {
    return (await this.getRestorable(archive, volume, isAll)).map(({ gid }) => gid);
  }

  async latestCleanSnapshot(archive: Server, volume: string): Promise<number> {
    return (await this.restorableGids(archive, volume)).at(-1)!;
  }

  waitForRestorable(archive: Server, volume: string, gid: number, timeoutMs = shortTimeoutMs): Promise<void> {
    return this.waitUntil(`${archive.name} ${volume} restorable ${gid}`, timeoutMs, async () => {
      return (await this.restorableGids(archive, volume)).includes(gid);
    });
  }

  /** Fails when the gid becomes restorable in that time. */
  async verifyNotRestorable(archive: Server, volume: string, gid: number, waitMs: number): Promise<void> {
    const endMs = performance.now() + waitMs;
    while (performance.now() < endMs) {
      if ((await this.restorableGids(archive, volume)).includes(gid)) throw new Error(`gid ${gid} became restorable`);
      await Bun.sleep(this.pollMs);
    }
  }

  async #prepareBackup(storage: Server, volume: string, sync: SyncOptions): Promise<void> {
    const state = await this.getState(storage, volume);
    if (state === "Standby") await this.stop(storage, volume);
    else if (state === "Stopped") await this.reset(storage, volume);
    else if (state !== "SyncReady") throw new Error(`${storage.name} ${volume} is ${state}`);
    for (const other of this.layout.storages) {
      if (other === storage) continue;
      const otherState = await this.getState(other, volume);
      if (otherState !== "Standby" && otherState !== "Clear") throw new Error(`${other.name} is ${otherState}`);
    }
    for (const archive of this.layout.archives) {
      if (await this.isSynchronizing(archive, volume)) await this.stopSynchronizing(archive, volume);
    }
    if ((await this.getState(this.primary, volume)) === "Clear") await this.ctl(this.primary, "init-vol", volume);
    await this.startSynchronizing(this.primary, volume, sync);
  }

  /** @returns the first gid that is restorable. */
  async fullBackup(storage: Server, volume: string, bulk = "64K", sync: SyncOptions = {}): Promise<number> {
    await this.#prepareBackup(storage, volume, sync);
    await this.ctl(storage, "full-bkp", volume, bulk);
    await this.#waitForTarget(storage, volume);
    let gid: number | undefined;
    await this.waitUntil(`${volume} restorable`, shortTimeoutMs, async () => {
      gid = (await this.restorableGids(this.primary, volume)).at(-1);
      return gid !== undefined;
    });
    return gid!;
  }

  /** @returns the first gid after those before that is restorable. */
  async hashBackup(storage: Server, volume: string, bulk = "64K", sync: SyncOptions = {}): Promise<number> {
    await this.#prepareBackup(storage, volume, sync);
    const before = (await this.restorableGids(this.primary, volume, true)).at(-1) ?? -1;
    await this.ctl(storage, "hash-bkp", volume, bulk);
    await this.#waitForTarget(storage, volume);
    let gid = -1;
    await this.waitUntil(`${volume} restorable behind ${before}`, shortTimeoutMs, async () => {
      gid = (await this.restorableGids(this.primary, volume)).at(-1) ?? -1;
      return gid > before;
    });
    return gid;
  }

  async #waitForTarget(storage: Server, volume: string): Promise<void> {
    await this.waitForNotState(storage, volume, duringSync);
    await this.verifyState(storage, volume, "Target");
    for (const proxy of this.layout.proxies) await this.ctl(proxy, "kick");
  }

  async snapshotNoWait(storage: Server, volume: string): Promise<number> {
    return Number(await this.ctl(storage, "snapshot", volume));
  }

  /** Takes one and waits until all of the archives have it. */
  async snapshot(storage: Server, volume: string, archives: readonly Server[] = [this.primary]): Promise<number> {
    const gid = await this.snapshotNoWait(storage, volume);
    for (const archive of archives) await this.waitForRestorable(archive, volume, gid);
    return gid;
  }

  // --- the archive's work ---

  async getRestored(archive: Server, volume: string): Promise<number[]> {
    return (await this.lines(archive, "get", "restored", volume)).map(Number);
  }

  async restore(archive: Server, volume: string, gid: number): Promise<void> {
    if ((await this.getRestored(archive, volume)).includes(gid)) throw new Error(`gid ${gid} is restored already`);
    await this.ctl(archive, "restore", volume, `${gid}`);
    await this.waitForNoAction(archive, volume, "Restore");
    if (!(await this.getRestored(archive, volume)).includes(gid)) throw new Error(`gid ${gid} was not restored`);
  }

  async delRestored(archive: Server, volume: string, gid: number): Promise<void> {
    await this.ctl(archive, "del-restored", volume, `${gid}`);
    await this.waitUntil(`gid ${gid} is deleted`, shortTimeoutMs, async () => {
      return !(await this.getRestored(archive, volume)).includes(gid);
    });
  }

  async apply(archive: Server, volume: string, gid: number): Promise<void> {
    await this.ctl(archive, "apply", volume, `${gid}`);
    await this.waitForNoAction(archive, volume, "Apply");
    const base = await this.getBase(archive, volume);
    if (base.includes("-->")) throw new Error(`${volume} is applying: ${base}`);
    const first = (await this.restorableGids(archive, volume))[0]!;
    if (first < gid) throw new Error(`${volume} has gid ${first} after apply ${gid}`);
  }

  /** Where diffs end that were made by comparing content, as hash backups and replications by hashes do. */
  async comparedGids(archive: Server, volume: string): Promise<number[]> {
    const lines = await this.lines(archive, "get", "diff", volume);
    const ends = lines.map((line) => /-->\|(?:\d+,)?(\d+)\| .C /.exec(line)?.[1]);
    return ends.flatMap((gid) => (gid === undefined ? [] : [Number(gid)]));
  }

  async existsDiff(archive: Server, volume: string, gidB: number, gidE: number): Promise<boolean> {
    const gids = [gidB, gidB, gidE, gidE].map(String);
    return (await this.ctl(archive, "get", "exists-diff", volume, ...gids)) === "1";
  }

  async merge(archive: Server, volume: string, gidB: number, gidE: number): Promise<void> {
    await this.ctl(archive, "merge", volume, `${gidB}`, "gid", `${gidE}`);
    await this.waitForNoAction(archive, volume, "Merge");
    if (!(await this.existsDiff(archive, volume, gidB, gidE))) throw new Error(`no diff ${gidB} to ${gidE}`);
  }

  async disableSnapshot(archive: Server, volume: string, gids: readonly number[]): Promise<void> {
    await this.ctl(archive, "disable-snapshot", volume, ...gids.map(String));
  }

  async enableSnapshot(archive: Server, volume: string, gids: readonly number[]): Promise<void> {
    await this.ctl(archive, "enable-snapshot", volume, ...gids.map(String));
  }

  getBlockHash(archive: Server, volume: string, gid: number, bulk = "64K"): Promise<string> {
    return this.ctl(archive, "bhash", volume, `${gid}`, bulk);
  }

  /** Grows the archives first, then the storages. */
  async resize(volume: string, sizeMb: number, isZeroClear = false): Promise<void> {
    for (const archive of this.layout.archives) {
      if ((await this.getState(archive, volume)) === "Clear") continue;
      await this.ctl(archive, "resize", volume, `${sizeMb}m`, ...(isZeroClear ? ["zeroclear"] : []));
      await this.waitForNoAction(archive, volume, "Resize");
    }
    for (const storage of this.layout.storages) {
      if ((await this.getState(storage, volume)) !== "Clear") await this.ctl(storage, "resize", volume, `${sizeMb}m`);
    }
  }

  /** Replicates up to a gid, by default the newest; makes the volume there when it is Clear. @returns the gid. */
  async replicateOnce(from: Server, volume: string, to: Server, isResync = false): Promise<number> {
    if ((await this.getState(to, volume)) === "Clear") await this.ctl(to, "init-vol", volume);
    const gid = await this.latestCleanSnapshot(from, volume);
    const address = `127.0.0.1:${to.peerPort ?? to.port}`;
    const options = [isResync ? "1" : "0", "0", "snappy:0:1", "1G", "64K"];
    await this.ctl(from, "replicate", volume, "gid", `${gid}`, address, ...options);
    await this.waitForNoAction(from, volume, "ReplSyncAsClient");
    await this.waitForNotState(to, volume, aDuringReplicate);
    const isThere = (await this.restorableGids(to, volume, true)).some((known) => known >= gid);
    if (!isThere) throw new Error(`gid ${gid} was not replicated to ${to.name}`);
    return gid;
  }

  /** Replicates, then has the proxies send to both, with nothing lost in between. @returns the gid both have. */
  async synchronize(from: Server, volume: string, to: Server, sync: SyncOptions = {}): Promise<number> {
    for (const proxy of this.layout.proxies) {
      await this.stop(proxy, volume, "empty");
      if ((await this.archiveInfoList(proxy, volume)).includes(to.name)) continue;
      const options = [`127.0.0.1:${to.peerPort ?? to.port}`, sync.compression ?? "snappy:0:1", `${sync.delayS ?? 0}`];
      await this.ctl(proxy, "archive-info", "add", volume, to.name, ...options);
    }
    const gid = await this.replicateOnce(from, volume, to);
    for (const proxy of this.layout.proxies) await this.start(proxy, volume);
    await this.kickAll(this.layout.storages);
    return gid;
  }

  /** Replicates all once, then what came meanwhile while the proxies stand still, and keeps on from there. */
  async replicateAndSynchronize(from: Server, volume: string, to: Server): Promise<number> {
    await this.replicateOnce(from, volume, to);
    return this.synchronize(from, volume, to);
  }
}
