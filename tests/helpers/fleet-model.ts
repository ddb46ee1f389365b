/**
 * @module A small model of a fleet with one volume, that does the steps of procedures as real servers do, call by call: it
 * refuses what their states do not allow, and knows whether anything that was acknowledged is missing.
 */
import type { ArchiveVolume } from "../../src/control/archive-schemas.ts";
import type { ProxyVolume } from "../../src/control/proxy.ts";
import type { StorageVolume } from "../../src/control/storage.ts";
import type { FleetEdit } from "../../src/fleet/edit.ts";
import type { FleetServer } from "../../src/fleet/fleet.ts";
import { type Step, stepText } from "../../src/fleet/procedures/step.ts";
import type { VolumeView } from "../../src/fleet/procedures/view.ts";

interface Storage {
  state: string;
  /** Delivered and written up to these gids. */
  done: number;
  latest: number;
  /** The newest snapshot that somebody was told of. */
  told: number;
  archive: string;
  proxies: string[];
  backup: { mode: "full" | "hash"; archive: string } | undefined;
}
interface Waiting {
  readonly from: number;
  readonly to: number;
}
interface Proxy {
  state: string;
  readonly archives: Map<string, Waiting[]>;
}
interface Archive {
  state: string;
  gid: number;
  line: number;
  /** Of a copy to it that runs. */
  copyFrom: string | undefined;
}

const idle = { volume: "vol0", stopState: "not-stopping" as const, running: [] };

export class FleetModel {
  readonly storages = new Map<string, Storage>();
  readonly proxies = new Map<string, Proxy>();
  readonly archives = new Map<string, Archive>();
  primary: string;
  #gid = 0;
  #line = 0;

  /** @param names s0 …, p0 …, a0 …; s0 ships to a0 through the first proxies, the others know nothing yet. */
  constructor(names: readonly string[], inUse: number) {
    const proxies = names.filter((name) => name[0] === "p");
    for (const name of names) {
      if (name[0] === "s") {
        const own = { archive: "a0", proxies: proxies.slice(0, inUse), backup: undefined };
        this.storages.set(name, { state: "Clear", done: 0, latest: 0, told: 0, ...own });
      }
      if (name[0] === "p") this.proxies.set(name, { state: "Clear", archives: new Map() });
      if (name[0] === "a") this.archives.set(name, { state: "Clear", gid: -1, line: 0, copyFrom: undefined });
    }
    this.primary = "a0";
    this.storages.get("s0")!.state = "Target";
    Object.assign(this.archives.get("a0")!, { state: "Archived", gid: 0, line: ++this.#line });
    for (const name of proxies.slice(0, inUse)) {
      this.proxies.set(name, { state: "Started", archives: new Map([["a0", []]]) });
    }
  }

  server(name: string): FleetServer {
    const role = ({ s: "storage", p: "proxy", a: "archive" } as const)[name[0] as "s" | "p" | "a"];
    return { name, role, address: name, isPrimary: name === this.primary };
  }

  /** What a controller sees. */
  view(): VolumeView {
    const device = { kind: "user", name: "vol0" } as const;
    return {
      volume: "vol0",
      primary: this.server(this.primary),
      missing: [],
      storages: [...this.storages].map(([name, { state, done, archive, proxies }]) => {
        const known = state === "Clear" ? {} : { device, doneGid: BigInt(done), isOverflow: false };
        const volume: StorageVolume = { ...idle, state, ...known };
        return { server: this.server(name), volume, archive, proxies: [...proxies] };
      }),
      proxies: [...this.proxies].map(([name, { state, archives }]) => {
        const entries = [...archives].map(([archiveName, waiting]) => ({
          ...{ archiveName, address: archiveName, compression: "snappy:0:1", delayS: 0, isSending: false },
          ...{ pendingCount: waiting.length, pendingBytes: waiting.length },
          ...(waiting[0] === undefined
            ? {}
            : { oldestGid: BigInt(waiting[0].from), latestGid: BigInt(waiting.at(-1)!.to) }),
        }));
        const volume: ProxyVolume = { ...idle, state, archives: entries };
        return { server: this.server(name), volume };
      }),
      archives: [...this.archives].map(([name, { state, gid, line }]) => {
        const point = gid < 0 ? {} : { newestPoint: { gid: BigInt(gid), timeMs: 0 }, archiveUuid: `${line}` };
        const volume: ArchiveVolume = { ...idle, state, ...point };
        return { server: this.server(name), volume };
      }),
    };
  }

  /** Something happens that nobody asked for: a write, a shipment, a delivery, the end of a job. */
  tick(choice: number): void {
    const target = [...this.storages.values()].find(({ state }) => state === "Target");
    if (choice % 4 === 0 && target !== undefined) target.latest = ++this.#gid;
    if (choice % 4 === 1) this.#ship();
    if (choice % 4 === 2) this.#deliver();
    if (choice % 4 === 3) this.#endJobs();
  }

  /** Everything arrives that can. */
  settle(): void {
    this.#endJobs();
    this.#ship();
    while (this.#deliver());
  }

  #ship(): void {
    for (const storage of this.storages.values()) {
      if (storage.state !== "Target" || storage.done === storage.latest) continue;
      const proxy = storage.proxies.map((name) => this.proxies.get(name)!).find(({ state }) => state === "Started");
      if (proxy === undefined) continue;
      for (const waiting of proxy.archives.values()) waiting.push({ from: storage.done, to: storage.latest });
      storage.done = storage.latest;
    }
  }

  #deliver(): boolean {
    let isMoved = false;
    for (const { state, archives } of this.proxies.values()) {
      if (state !== "Started" && state !== "WaitForEmpty") continue;
      for (const [name, waiting] of archives) {
        const archive = this.archives.get(name)!;
        const [first] = waiting;
        if (first === undefined || archive.state !== "Archived" || first.from > archive.gid) continue;
        archive.gid = Math.max(archive.gid, first.to);
        waiting.shift();
        isMoved = true;
      }
    }
    return isMoved;
  }

  #endJobs(): void {
    for (const storage of this.storages.values()) {
      const { backup } = storage;
      if (backup === undefined) continue;
      const archive = this.archives.get(backup.archive)!;
      storage.backup = undefined;
      storage.state = "Target";
      archive.state = "Archived";
      archive.gid = storage.done;
      if (backup.mode === "full") archive.line = ++this.#line;
    }
    for (const archive of this.archives.values()) {
      if (archive.copyFrom === undefined) continue;
      const { gid, line } = this.archives.get(archive.copyFrom)!;
      Object.assign(archive, { state: "Archived", gid: Math.max(gid, archive.gid), line, copyFrom: undefined });
    }
  }

  /** The calls that a step consists of, in order: a controller may die between any two. */
  calls(step: Step): (() => void)[] {
    const { at, action } = step;
    const need = (state: string, ...allowed: string[]): void => {
      if (!allowed.includes(state)) throw new Error(`${stepText(step)}: refused in state ${state}`);
    };
    const storage = this.storages.get(at.name);
    const proxy = this.proxies.get(at.name);
    const archive = this.archives.get(at.name);
    const known = (storage ?? proxy ?? archive)!;
    switch (action.kind) {
      case "init-storage":
      case "init-archive":
        return [
          () => {
            need(known.state, "Clear");
            known.state = "SyncReady";
          },
        ];
      case "start-target":
      case "start-standby":
        return [
          () => {
            need(known.state, action.kind === "start-target" ? "Stopped" : "SyncReady");
            known.state = action.kind === "start-target" ? "Target" : "Standby";
          },
        ];
      case "start":
        return [() => this.#start(known, need)];
      case "stop":
        return [() => this.#stop(known, need)];
      case "stop-empty":
        return [
          () => {
            need(known.state, "Started", "WaitForEmpty");
            known.state = "WaitForEmpty";
          },
          () => {
            this.settle();
            for (const [name, waiting] of proxy!.archives) {
              if (waiting.length > 0) throw new Error(`${stepText(step)}: never ends, diffs wait for ${name}`);
            }
            known.state = "Stopped";
          },
        ];
      case "reset":
        return [
          () => {
            need(known.state, "Stopped");
            if (storage!.done < storage!.told) this.#mustBeForced(step);
            storage!.state = "SyncReady";
            storage!.done = storage!.latest = storage!.told = 0;
          },
        ];
      case "clear":
        return [
          () => {
            need(known.state, "SyncReady", "Stopped");
            if (storage !== undefined) need(known.state, "SyncReady");
            for (const waiting of proxy?.archives.values() ?? []) if (waiting.length > 0) this.#mustBeForced(step);
            if (archive !== undefined) this.#mustBeForced(step);
            known.state = "Clear";
            proxy?.archives.clear();
            if (archive !== undefined) archive.gid = -1;
          },
        ];
      case "settle":
        return [
          () => {
            need(known.state, "Target", "Stopped");
            storage!.latest = storage!.told = ++this.#gid;
          },
          () => {
            this.settle();
            const { gid } = this.archives.get(action.archive.name)!;
            if (gid < storage!.latest) throw new Error(`${stepText(step)}: never ends at gid ${gid}`);
          },
        ];
      case "backup":
        return [
          () => {
            need(known.state, "SyncReady");
            const to = this.archives.get(storage!.archive)!;
            need(to.state, action.mode === "full" ? "SyncReady" : "Archived");
            storage!.state = to.state = action.mode === "full" ? "FullSync" : "HashSync";
            storage!.backup = { mode: action.mode, archive: storage!.archive };
            storage!.done = storage!.latest = ++this.#gid;
          },
          () => this.settle(),
        ];
      case "register":
      case "unregister":
        return [
          ...(proxy!.state === "Clear" || proxy!.state === "Stopped" ? [] : [() => this.#stop(proxy!, need)]),
          () => {
            need(proxy!.state, "Clear", "Stopped");
            proxy!.state = "Stopped";
            const { name } = action.archive;
            if (action.kind === "register") proxy!.archives.set(name, proxy!.archives.get(name) ?? []);
            else proxy!.archives.delete(name);
          },
          () => this.#start(proxy!, need),
        ];
      case "replicate":
        return [() => this.#replicate(step, action.to, need), () => this.#endJobs()];
      case "catch-up":
        return [
          () => this.#replicate(step, action.to, need),
          () => {
            const waiting = action.proxies.flatMap(({ name }) => this.proxies.get(name)!.archives.get(at.name) ?? []);
            const goal = Math.max(archive!.gid, ...waiting.map(({ to }) => to));
            this.settle();
            this.#replicate(step, action.to, need);
            if (this.archives.get(action.to.name)!.gid < goal) throw new Error(`${stepText(step)}: never ends`);
          },
        ];
      case "await-sync":
        return [() => this.#endJobs()];
      case "kick":
        return [() => need(known.state, "Started", "WlogRecv", "WaitForEmpty")];
      case "set-archive":
        return [
          () => {
            storage!.archive = action.archive.name;
          },
        ];
      case "set-proxies":
        return [
          () => {
            storage!.proxies = [...action.addresses];
          },
        ];
    }
  }

  /** What is destroyed for good on purpose: only forgetting does. */
  isForgetting = false;

  #mustBeForced(step: Step): void {
    if (!this.isForgetting) throw new Error(`${stepText(step)}: it destroys what is nowhere else`);
  }

  #start(known: { state: string }, need: (state: string, ...allowed: string[]) => void): void {
    need(known.state, "Stopped", "WaitForEmpty");
    known.state = "archive" in known ? "Target" : "Started";
  }

  #stop(known: { state: string }, need: (state: string, ...allowed: string[]) => void): void {
    need(known.state, "Target", "Standby", "Started", "WaitForEmpty", "Archived", "FullSync", "HashSync");
    for (const storage of this.storages.values()) {
      if (storage !== known || storage.backup === undefined) continue;
      const { mode, archive } = storage.backup;
      this.archives.get(archive)!.state = mode === "full" ? "SyncReady" : "Archived";
      storage.backup = undefined;
      known.state = "SyncReady";
      return;
    }
    known.state = known.state === "Standby" ? "SyncReady" : "Stopped";
  }

  #replicate(step: Step, to: FleetServer, need: (state: string, ...allowed: string[]) => void): void {
    const target = this.archives.get(to.name)!;
    need(this.archives.get(step.at.name)!.state, "Archived");
    need(target.state, "SyncReady", "FullSync", "Archived");
    target.copyFrom = step.at.name;
    if (target.state === "SyncReady") target.state = "FullSync";
    else this.#endJobs();
  }

  edit(edit: FleetEdit): void {
    if (edit.kind === "primary") this.primary = edit.archive;
  }

  /** True when an archive, with what waits for it at the proxies, has all that the storages have delivered. */
  isLedTo(name: string): boolean {
    const archive = this.archives.get(name)!;
    let reached = archive.gid;
    const waiting = [...this.proxies.values()].flatMap(({ archives }) => archives.get(name) ?? []);
    for (const { from, to } of waiting.sort((a, b) => a.from - b.from))
      if (from <= reached) reached = Math.max(reached, to);
    return [...this.storages.values()].every(
      ({ state, done }) => state === "Clear" || state === "Standby" || reached >= done,
    );
  }

  /** True when what was acknowledged is at some archive, or on its way there. */
  get isSafe(): boolean {
    const isCopied = [...this.storages.values()].some(({ backup }) => backup !== undefined);
    return isCopied || [...this.archives.keys()].some((name) => this.isLedTo(name));
  }
}
