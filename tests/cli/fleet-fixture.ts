/** @module A fleet of fake roles behind the real HTTP API, for tests of the verbs. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program } from "../../src/cli/commands.ts";
import type { WalbCommand } from "../../src/cli/program.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import type { Io } from "../../src/cli/verb.ts";
import { type ArchiveCommands, archiveCommands } from "../../src/control/archive.ts";
import type { Commands, Handlers } from "../../src/control/command.ts";
import { type Control, createControl } from "../../src/control/control.ts";
import { silentLogger } from "../../src/control/logger.ts";
import { type ProxyCommands, proxyCommands } from "../../src/control/proxy.ts";
import { type StorageCommands, storageCommands } from "../../src/control/storage.ts";
import { WalbError } from "../../src/errors.ts";
import { createApp } from "../../src/http/app.ts";
import { testClock, testRandom } from "../control/fixtures.ts";
import { quietIo } from "../helpers/quiet-io.ts";

/** States of vol0 at the three, and what was called, in order. */
export interface FakeFleet {
  readonly states: { storage: string; proxy: string; archive: string };
  readonly calls: string[];
  /** Time and gid of the archive's newest point. */
  newestMs: number;
  /** What the archive has to say; from another time after a backup that broke off. */
  archiveTrouble: { code: string; message: string; hint: string; atMs: number } | undefined;
  newestGid: bigint;
  /** Of 100. */
  logUsagePb: number;
  readonly directory: string;
  readonly ports: { storage: number; proxy: number; archive: number };
  run(words: readonly string[], io?: Partial<Io>): Promise<{ code: number; out: string; err: string }>;
  close(): Promise<void>;
}

/** What a server says of a volume it cannot open. */
const troubleIn = (state: string) =>
  state === "Broken"
    ? { trouble: { code: "damaged", message: "volume.db is no database", hint: "move volume.db aside", atMs: 0 } }
    : {};
const idle = { stopState: "not-stopping" as const, running: [] };

/** What the servers call themselves. */
const sameNames = { storage: "s0", proxy: "p0", archive: "a0" };

/** Starts the three servers and writes a walb.toml for them, where they are s0, p0 and a0. */
export async function startFakeFleet(nodeIds: typeof sameNames = sameNames): Promise<FakeFleet> {
  const states = { storage: "Clear", proxy: "Clear", archive: "Clear" };
  const calls: string[] = [];
  const called = (role: string, name: string, params: object): void => {
    calls.push(
      `${role} ${name} ${JSON.stringify(params, (_, value) => (typeof value === "bigint" ? Number(value) : value))}`,
    );
  };
  const refuse = (volume: string): never => {
    const hint = `look with: walb snapshots ${volume} --server ${nodeIds.archive}; or not`;
    throw new WalbError("state", { what: "refused by the fake since 2026-01-01T00:00:00Z", where: { volume }, hint });
  };
  const nowMs = Date.now();

  const storage: Handlers<StorageCommands> = {
    status: async () => ({
      archive: "127.0.0.1:1",
      proxies: [],
      volumes: [
        {
          volume: "vol0",
          state: states.storage,
          ...idle,
          ...troubleIn(states.storage),
          lagBytes: 2048,
          lagMs: 3000,
          logUsagePb: fleet.logUsagePb,
          logCapacityPb: 100,
        },
      ],
    }),
    volumes: async () => ({ volumes: ["vol0"] }),
    init: async (params) => {
      if (params.device.name === "nosuch") refuse(params.volume);
      called("storage", "init", params);
      states.storage = "SyncReady";
      return {};
    },
    clear: async (params) => {
      called("storage", "clear", params);
      states.storage = "Clear";
      return {};
    },
    backup: async (params, { progress, signal }) => {
      called("storage", "backup", params);
      if (params.volume === "broken-off") {
        if (fleet.archiveTrouble !== undefined) fleet.archiveTrouble = { ...fleet.archiveTrouble, atMs: nowMs };
        throw new WalbError("unreachable", { what: "the peer closed the connection too early" });
      }
      for (let step = 1; step <= 10; step += 1) {
        await testClock.sleep(params.volume === "slow" ? 60_000 : 10, signal);
        progress({ doneBytes: step * 100, totalBytes: 1000, step: "scanning" });
      }
      states.storage = "Target";
      states.archive = "Archived";
      return { mode: params.mode, gid: 1n, scannedBytes: 1000, sentBytes: 500, elapsedMs: 100 };
    },
    snapshot: async (params) => {
      called("storage", "snapshot", params);
      return { gid: 5n, timeMs: nowMs };
    },
    start: async (params) => {
      called("storage", "start", params);
      states.storage = "Target";
      return {};
    },
    stop: async (params) => {
      called("storage", "stop", params);
      states.storage = "Stopped";
      return {};
    },
    reset: async (params) => {
      called("storage", "reset", params);
      states.storage = "SyncReady";
      return {};
    },
    resize: async (params) => {
      called("storage", "resize", params);
      return {};
    },
    kick: async (params) => {
      called("storage", "kick", params);
      return {};
    },
    "set-scan-rate": async ({ bytesPerS = 0 }) => {
      called("storage", "set-scan-rate", { bytesPerS });
      return { bytesPerS };
    },
    "set-archive": async ({ address = "127.0.0.1:1" }) => {
      called("storage", "set-archive", { address });
      return { archive: address };
    },
    "set-proxies": async ({ addresses = ["127.0.0.1:1"] }) => {
      called("storage", "set-proxies", { addresses });
      return { proxies: addresses };
    },
    "set-device": async (params) => {
      called("storage", "set-device", params);
      return {};
    },
    "dump-log-header": async (params) => {
      called("storage", "dump-log-header", params);
      return { file: `/data/vol0/logpackheader-${params.lsid}`, fault: "checksum does not match" };
    },
  };

  const toArchive = {
    archiveName: "a0",
    address: "127.0.0.1:1",
    compression: "snappy",
    delayS: 0,
    pendingCount: 1,
    pendingBytes: 4096,
    lagMs: 5000,
    isSending: false,
  };
  const proxy: Handlers<ProxyCommands> = {
    status: async () => ({
      volumes: [{ volume: "vol0", state: states.proxy, ...idle, ...troubleIn(states.proxy), archives: [toArchive] }],
    }),
    volumes: async () => ({ volumes: ["vol0"] }),
    "add-archive": async (params) => {
      called("proxy", "add-archive", { volume: params.volume, archiveName: params.archiveName });
      states.proxy = "Stopped";
      // Done, but not answered in time.
      if (params.volume === "late") await testClock.sleep(3000);
      return {};
    },
    "remove-archive": async ({ volume }) => refuse(volume),
    "list-archives": async () => ({ archives: [] }),
    start: async (params) => {
      called("proxy", "start", params);
      states.proxy = "Started";
      return {};
    },
    stop: async (params) => {
      called("proxy", "stop", params);
      states.proxy = "Stopped";
      return {};
    },
    clear: async (params) => {
      called("proxy", "clear", params);
      states.proxy = "Clear";
      return {};
    },
    resize: async (params) => {
      called("proxy", "resize", params);
      return {};
    },
    kick: async (params) => {
      called("proxy", "kick", params);
      return {};
    },
  };

  const point = { isExplicit: true, isProtected: false, bytesToRestore: 3 * 1024 ** 2, sizeLb: 2048 };
  const archive: Handlers<ArchiveCommands> = {
    status: async () => ({
      images: "file",
      volumes: [
        {
          volume: "vol0",
          state: states.archive,
          ...idle,
          ...(fleet.archiveTrouble === undefined ? {} : { trouble: fleet.archiveTrouble }),
          ...troubleIn(states.archive),
          ...(states.archive === "Archived"
            ? {
                oldestPoint: { gid: 1n, timeMs: nowMs - 3_600_000 },
                newestPoint: { gid: fleet.newestGid, timeMs: fleet.newestMs },
              }
            : {}),
        },
      ],
    }),
    volumes: async () => ({ volumes: ["vol0"] }),
    init: async (params) => {
      called("archive", "init", params);
      states.archive = "SyncReady";
      return {};
    },
    snapshots: async ({ all }) => ({
      snapshots: [
        { gid: 1n, timeMs: Date.UTC(2026, 0, 1), ...point, label: "first" },
        ...(all === true ? [{ gid: 3n, timeMs: Date.UTC(2026, 0, 2), ...point, isExplicit: false }] : []),
      ],
    }),
    diffs: async () => ({ base: { gid: 1n }, diffs: [] }),
    "label-snapshot": async (params) => {
      if (states.archive === "down") refuse(params.volume);
      called("archive", "label-snapshot", params);
      return {};
    },
    restore: async (params) => {
      called("archive", "restore", params);
      if (params.volume === "lost") {
        throw new WalbError("not-restorable", {
          what: "there is no point before that; the nearest is after it gid 3 (2026-01-02T00:00:00Z)",
          where: { volume: params.volume },
          hint: "not 2026-01-01T23:59:59Z",
        });
      }
      const base = {
        gid: params.gid ?? 5n,
        timeMs: nowMs,
        sizeBytes: 1024 ** 2,
        bytes: 3 * 1024 ** 2,
        elapsedMs: 2000,
        path: params.to ?? "/a/restored-5.img",
      };
      return params.dryRun === true ? { ...base, elapsedMs: 0, estimateMs: 90_000 } : base;
    },
    apply: async (params) => {
      called("archive", "apply", params);
      return { gid: params.gid, bytes: 1024 ** 2, elapsedMs: 1000, lostPointCount: 1 };
    },
    merge: async (params) => {
      called("archive", "merge", params);
      return { mergedCount: 3, bytes: 1024 ** 2, elapsedMs: 1000 };
    },
    "disable-snapshot": async (params) => {
      called("archive", "disable-snapshot", params);
      return {};
    },
    "enable-snapshot": async (params) => {
      called("archive", "enable-snapshot", params);
      return {};
    },
    restored: async (params) => {
      called("archive", "restored", params);
      return { restored: [{ gid: 3n, path: "/a/restored-3.img", sizeBytes: 512, timeMs: nowMs }] };
    },
    "del-restored": async (params) => {
      called("archive", "del-restored", params);
      return {};
    },
    cold: async (params) => {
      called("archive", "cold", params);
      return { cold: [{ gid: 4n, path: "/a/cold-4.img", timeMs: nowMs }] };
    },
    "del-cold": async (params) => {
      called("archive", "del-cold", params);
      return {};
    },
    bhash: async ({ volume }) => refuse(volume),
    verify: async (params) => {
      called("archive", "verify", params);
      const counts = { diffCount: 4, checkedCount: 4, checkedBytes: 4096, imageBytes: 1024 ** 2, elapsedMs: 1500 };
      if (params.volume !== "bad0") return { ...counts, damage: [], lostPointCount: 0 };
      const damage = [
        { file: "x.wdiff", message: "x.wdiff: checksum; without this diff these points are lost: gid 3" },
      ];
      return { ...counts, damage, lostPointCount: 1 };
    },
    changes: async (params) => {
      called("archive", "changes", params);
      const ranges = [
        { offsetBytes: 0, sizeBytes: 4096, isZero: false },
        { offsetBytes: 1024 ** 2, sizeBytes: 1536, isZero: true },
      ];
      const { fromGid, toGid } = params;
      return { fromGid, toGid, changedBytes: 5632, zeroBytes: 1536, rangeCount: 3, ranges };
    },
    "gc-diff": async ({ volume }) => refuse(volume),
    "set-rates": async ({ applyBytesPerS = 0 }) => ({
      applyBytesPerS,
      restoreBytesPerS: 0,
      mergeBytesPerS: 0,
      scanBytesPerS: 0,
    }),
    "dbg-reload-metadata": async ({ volume }) => refuse(volume),
    "dbg-set-uuid": async ({ volume }) => refuse(volume),
    "dbg-set-state": async ({ volume }) => refuse(volume),
    "dbg-set-base": async ({ volume }) => refuse(volume),
    replicate: async (params) => {
      called("archive", "replicate", params);
      if (params.to.startsWith("refuse")) refuse(params.volume);
      const counts = { hashCount: 0, diffCount: 2, sentBytes: 3000, elapsedMs: 1500 };
      return { gid: 9, isFull: false, isResync: params.resync === true, ...counts };
    },
    clear: async (params) => {
      called("archive", "clear", params);
      states.archive = "Clear";
      return {};
    },
    reset: async (params) => {
      called("archive", "reset", params);
      states.archive = "SyncReady";
      return {};
    },
    resize: async (params) => {
      called("archive", "resize", params);
      return {};
    },
    start: async (params) => {
      called("archive", "start", params);
      states.archive = "Archived";
      return {};
    },
    stop: async (params) => {
      called("archive", "stop", params);
      states.archive = "Stopped";
      return {};
    },
  };

  const servers = [
    serve("storage", nodeIds.storage, storageCommands, storage),
    serve("proxy", nodeIds.proxy, proxyCommands, proxy),
    serve("archive", nodeIds.archive, archiveCommands, archive),
  ] as const;
  const directory = mkdtempSync(join(tmpdir(), "walb-cli-test-"));
  const [s0, p0, a0] = servers;
  writeFileSync(
    join(directory, "walb.toml"),
    `[servers.s0]\nrole = "storage"\naddress = "127.0.0.1:${s0.port}"\n` +
      `[servers.p0]\nrole = "proxy"\naddress = "127.0.0.1:${p0.port}"\n` +
      `[servers.a0]\nrole = "archive"\naddress = "127.0.0.1:${a0.port}"\nprimary = true\n` +
      `[volumes.vol0]\nstorage = "s0"\n`,
  );
  const fleet: FakeFleet = {
    states,
    calls,
    newestMs: nowMs - 1000,
    archiveTrouble: undefined,
    newestGid: 5n,
    logUsagePb: 25,
    directory,
    ports: { storage: s0.port, proxy: p0.port, archive: a0.port },
    run: (words, io = {}) => runIn(directory, words, io),
    async close() {
      await Promise.all(servers.map((server) => server.close()));
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return fleet;
}

/** Runs a command line in this process, in a directory, with nobody at the terminal. */
export async function runIn(
  directory: string,
  words: readonly string[],
  io: Partial<Io> = {},
  root: WalbCommand = program,
): Promise<{ code: number; out: string; err: string }> {
  const { io: whole, said } = quietIo({ cwd: directory, ...io });
  const code = await runCommandLine(words, whole, root);
  return { code, ...said };
}

function serve<C extends Commands>(
  role: "storage" | "proxy" | "archive",
  nodeId: string,
  commands: C,
  handlers: Handlers<C>,
): { readonly port: number; close(): Promise<void> } {
  const control: Control = createControl({
    role,
    commands,
    handlers,
    nodeId,
    security: "loopback",
    clock: testClock,
    random: testRandom,
    log: silentLogger,
  });
  const app = createApp(control, silentLogger);
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request) => app.fetch(request) });
  return {
    port: server.port ?? 0,
    async close() {
      await control.close();
      await server.stop(true);
    },
  };
}
