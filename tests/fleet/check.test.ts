import { describe, expect, test } from "bun:test";
import { parseSize } from "../../src/cli/text/size.ts";
import { parseDuration } from "../../src/cli/text/time.ts";
import type { ArchiveStatus } from "../../src/control/archive-schemas.ts";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import type { StorageStatus } from "../../src/control/storage.ts";
import { checkFleetFile } from "../../src/fleet/check/file.ts";
import { type Finding, Findings } from "../../src/fleet/check/findings.ts";
import { checkServers, type Probe } from "../../src/fleet/check/servers.ts";
import { parseFleet } from "../../src/fleet/fleet.ts";

const nowMs = Date.UTC(2026, 10, 21);
const good = `
cluster-key = "walb.key"
[servers.s0]
role = "storage"
address = "pc1:10000"
[servers.p0]
role = "proxy"
address = "pc2:10100"
[servers.a0]
role = "archive"
address = "pc2:10200"
primary = true
[servers.a1]
role = "archive"
address = "pc3:10200"
[volumes.vol0]
storage = "s0"
device = "vol0"
keep = { all = "2h", hourly = "3d", daily = "14d" }
replicate = ["a1"]
[worker]
merge = { every = "1h" }
`;
const checkText = (text: string): readonly Finding[] =>
  checkFleetFile(text, "/etc/walb/walb.toml", { duration: parseDuration, size: parseSize }).findings.all;
const changed = (from: string, to: string): string => {
  if (!good.includes(from)) throw new Error(`the good file has no ${from}`);
  return good.replace(from, to);
};

test("a file without mistakes has no findings", () => {
  expect(checkText(good)).toEqual([]);
});

/** What is wrong; the file with the mistake; the place and the words by which it is named. */
const inFile: readonly (readonly [string, string, string, RegExp])[] = [
  ["no TOML", "[servers", "the file", /not TOML/],
  ["an empty file", "", "servers", /it is missing: a table/],
  ["a list of servers", '[[servers]]\nname = "s0"', "servers", /it must be a table/],
  ["a primary that is text", changed("primary = true", 'primary = "yes"'), "servers.a0.primary", /must be a boolean/],
  ["a misspelt key", changed("primary = true", "primry = true"), "servers.a0", /primry/],
  ["an unknown role", changed('role = "proxy"', 'role = "relay"'), "servers.p0.role", /storage.*proxy.*archive/],
  ["an address without a port", changed('"pc1:10000"', '"pc1"'), "servers.s0.address", /host:port/],
  ["an impossible port", changed("pc1:10000", "pc1:70000"), "servers.s0.address", /65535/],
  ["port 0", changed("pc1:10000", "pc1:0"), "servers.s0.address", /port 0/],
  ["a server without an address", changed('address = "pc1:10000"\n', ""), "servers.s0.address", /missing/],
  [
    "two primaries",
    changed('address = "pc3:10200"', 'address = "pc3:10200"\nprimary = true'),
    "servers.a1.primary",
    /only one/,
  ],
  ["no primary", changed("primary = true\n", ""), "servers", /primary = true/],
  [
    "a proxy as primary",
    changed('"pc2:10100"', '"pc2:10100"\nprimary = true'),
    "servers.p0.primary",
    /only an archive/,
  ],
  ["no proxy", good.replace(/\[servers.p0\][^[]*/, ""), "servers", /there is no proxy/],
  ["one address twice", changed("pc3:10200", "PC2:10200"), "servers.a1.address", /the address of a0/],
  ["loopback among hosts", changed("pc1:10000", "127.0.0.1:10000"), "servers.s0.address", /another host for each/],
  [
    "a storage that is not there",
    changed('storage = "s0"', 'storage = "s9"'),
    "volumes.vol0.storage",
    /no storage "s9"/,
  ],
  ["an archive that is not there", changed('["a1"]', '["a9"]'), "volumes.vol0.replicate", /no archive "a9"/],
  ["replication to the primary", changed('["a1"]', '["a0"]'), "volumes.vol0.replicate", /has it already/],
  ["an archive named twice", changed('["a1"]', '["a1", "a1"]'), "volumes.vol0.replicate", /twice/],
  ["an unknown rule", changed('hourly = "3d"', 'hourley = "3d"'), "volumes.vol0.keep.hourley", /rules are/],
  ["a rule without a duration", changed('"14d"', '"long"'), "volumes.vol0.keep.daily", /not a duration/],
  [
    "a rule shorter than its interval",
    changed('"14d"', '"2h"'),
    "volumes.vol0.keep.daily",
    /shorter than its interval/,
  ],
  [
    "a coarse rule that ends before a finer one",
    changed('daily = "14d"', 'daily = "2d"'),
    "volumes.vol0.keep.daily",
    /adds nothing: hourly keeps more points, for 3/,
  ],
  ["a rule that is no text", changed('"14d"', "true"), "volumes.vol0.keep.daily", /true is no time/],
  ["a worker's time that is missing", changed('{ every = "1h" }', "{ }"), "worker.merge.every", /missing: a time like/],
  [
    "a worker's time that is a list",
    changed('{ every = "1h" }', "{ every = [] }"),
    "worker.merge.every",
    /a time like/,
  ],
  [
    "a drill without a duration",
    changed('replicate = ["a1"]', 'drill = { every = "weekly" }'),
    "volumes.vol0.drill.every",
    /not a duration/,
  ],
  [
    "a drill, which has no effect",
    changed('replicate = ["a1"]', 'drill = { every = "7d" }'),
    "volumes.vol0.drill",
    /no effect/,
  ],
  [
    "a worker's time that is none",
    changed('merge = { every = "1h" }', 'merge = { every = "often" }'),
    "worker.merge.every",
    /not a duration/,
  ],
  [
    "a storage left unsaid",
    changed('storage = "s0"\n', "").replace(
      "[servers.p0]",
      '[servers.s1]\nrole = "storage"\naddress = "pc4:10000"\n[servers.p0]',
    ),
    "volumes.vol0.storage",
    /not said which/,
  ],
  [
    "a device of two volumes",
    `${good}\n[volumes.vol1]\nstorage = "s0"\ndevice = "vol0"`,
    "volumes.vol1.device",
    /device of vol0/,
  ],
  [
    "a device of two volumes by its path",
    `${good}\n[volumes.vol1]\nstorage = "s0"\ndevice = "/dev/walb/vol0"`,
    "volumes.vol1.device",
    /device of vol0/,
  ],
  [
    "a device that another volume has by its name",
    `${changed('device = "vol0"', 'device = "vol1"')}\n[volumes.vol1]\nstorage = "s0"`,
    "volumes.vol1.device",
    /device of vol0/,
  ],
  ["an address nobody is reached at", changed("pc1:10000", "0.0.0.0:10000"), "servers.s0.address", /nobody is reached/],
  [
    "a worker without rest",
    changed('merge = { every = "1h" }', 'poll = "0s"'),
    "worker.poll",
    /not a duration above 0/,
  ],
  [
    "a worker that keeps nothing",
    changed('merge = { every = "1h" }', 'apply = { keep = "0s" }'),
    "worker.apply.keep",
    /not a duration above 0/,
  ],
  [
    "merges of nothing",
    changed('every = "1h"', 'every = "1h", max-size = "0"'),
    "worker.merge.max-size",
    /not a size above 0/,
  ],
  ["a volume name that cannot be", changed("[volumes.vol0]", '[volumes."vol 0"]'), "volumes.vol 0", /letters, digits/],
];

describe("walb check finds in the file", () => {
  test.each(inFile)("%s", (_, text, place, words) => {
    const found = checkText(text).find((finding) => finding.place === place);
    expect(found?.what ?? JSON.stringify(checkText(text))).toMatch(words);
  });
});

test("walb check names one mistake once", () => {
  expect(checkText(changed('"pc1:10000"', '"pc1"'))).toHaveLength(1);
});

test("walb check names every wrong rule of a volume, and says how a missing time is written", () => {
  const text = changed('hourly = "3d"', 'hourly = "never"').replace('"14d"', '"long"').replace('all = "2h"', "al = 1");
  const places = checkText(text).map(({ place }) => place);
  expect(places).toEqual(["volumes.vol0.keep.al", "volumes.vol0.keep.hourly", "volumes.vol0.keep.daily"]);
  const missing = checkText(changed('{ every = "1h" }', "{ }"));
  expect(missing.map(({ hint }) => hint)).toEqual(['for example every = "1h"']);
});

describe("a wrong type in the file", () => {
  const places = (text: string): string[] => checkText(text).map(({ place }) => place);

  test("hides nothing else that is wrong, and is no reason for findings that are not", () => {
    const text = good
      .replace('address = "pc1:10000"', "address = 1")
      .replace("primary = true", 'primary = "yes"')
      .replace('"pc3:10200"', '"pc2:10200"')
      .replace('all = "2h"', "all = true")
      .replace('daily = "14d"', 'daily = "1h"')
      .replace('["a1"]', '[1, "nowhere"]')
      .replace('every = "1h"', 'every = "often", max-size = "0"');
    expect(places(text).toSorted()).toEqual([
      "servers.a0.primary",
      "servers.a1.address",
      "servers.s0.address",
      "volumes.vol0.keep.all",
      "volumes.vol0.keep.daily",
      "volumes.vol0.replicate",
      "volumes.vol0.replicate.0",
      "worker.merge.every",
      "worker.merge.max-size",
    ]);
  });

  test("alone is all that is found, wherever it is", () => {
    const lines = good.split("\n");
    let mistakes = 0;
    for (const [at, line] of lines.entries()) {
      if (!line.includes(" = ")) continue;
      const [name = ""] = line.split(" = ");
      for (const value of ["[[]]", "{ no = { such = 1 } }", "-1.5", "1979-05-27"]) {
        const found = places(lines.with(at, `${name} = ${value}`).join("\n"));
        expect([line, value, found.length > 0, found.filter((place) => !place.split(".").includes(name))]).toEqual([
          line,
          value,
          true,
          [],
        ]);
        mistakes++;
      }
    }
    expect(mistakes).toBeGreaterThan(40);
  });

  test("of all servers leaves the volumes and the worker to be checked", () => {
    const text = 'servers = 5\n[volumes.vol0]\nstorage = "s0"\nkeep = { all = "never" }\n[worker]\npoll = "0"\n';
    expect(places(text)).toEqual(["servers", "volumes.vol0.keep.all", "worker.poll"]);
  });
});

const info = (role: "storage" | "proxy" | "archive", nodeId: string) => ({
  role,
  nodeId,
  version: "1",
  startedMs: nowMs - 1000,
  nowMs,
  security: "cluster-key" as const,
});
const idle = { volume: "vol0", stopState: "not-stopping" as const, running: [] };

interface Answers {
  s0: Probe & { storage: StorageStatus };
  p0: Probe & { proxy: ProxyStatus };
  a0: Probe & { archive: ArchiveStatus };
  a1: Probe & { archive: ArchiveStatus };
}

/** Answers of servers that are as they should be. */
function answers(): Answers {
  const fleet = parseFleet(good, "walb.toml");
  const server = (name: string) => fleet.servers.find((one) => one.name === name)!;
  const askedMs = [nowMs - 1, nowMs + 1] as const;
  const kept = { ...idle, state: "Archived", base: "<|0|>", sizeLb: 1000 };
  const archive = (): ArchiveStatus => ({ images: "file", freeBytes: 50, totalBytes: 100, volumes: [{ ...kept }] });
  return {
    s0: {
      server: server("s0"),
      info: info("storage", "pc1"),
      askedMs,
      storage: {
        archive: "pc2:10200",
        proxies: [{ address: "pc2:10100", isAvailable: true }],
        volumes: [
          {
            ...idle,
            state: "Target",
            sizeLb: 1000,
            device: { kind: "user", name: "vol0" },
            isOverflow: false,
            logUsagePb: 1,
            logCapacityPb: 100,
          },
        ],
      },
    },
    p0: {
      server: server("p0"),
      info: info("proxy", "pc2"),
      askedMs,
      proxy: {
        volumes: [
          {
            ...idle,
            state: "Started",
            archives: ["a0", "a1"].map((archiveName) => ({
              archiveName,
              address: server(archiveName).address,
              compression: "snappy:0:1",
              delayS: 0,
              pendingCount: 0,
              pendingBytes: 0,
              isSending: false,
            })),
          },
        ],
      },
    },
    a0: { server: server("a0"), info: info("archive", "pc2"), askedMs, archive: archive() },
    a1: { server: server("a1"), info: info("archive", "pc3"), askedMs, archive: archive() },
  };
}

function checkAnswers(change: (answers: Answers) => void, text = good): readonly Finding[] {
  const all = answers();
  change(all);
  const findings = new Findings();
  checkServers(parseFleet(text, "walb.toml"), Object.values(all), findings);
  return findings.all;
}

test("servers that are as they should be have no findings", () => {
  expect(checkAnswers(() => undefined)).toEqual([]);
});

const storageVolume = (all: Answers) => all.s0.storage.volumes[0]!;
const set = (target: object, values: object): void => {
  Object.assign(target, values);
};

const atServers: readonly (readonly [string, (all: Answers) => void, string, RegExp])[] = [
  [
    "a server that does not answer",
    (all) => set(all, { p0: { server: all.p0.server, error: { message: "connection refused" } } }),
    "server p0",
    /does not answer: connection refused/,
  ],
  [
    "another role at an address",
    (all) => set(all.p0, { info: info("archive", "pc2") }),
    "servers.p0.role",
    /has the role archive/,
  ],
  [
    "a clock that is wrong",
    (all) => set(all.a0, { info: { ...info("archive", "pc2"), nowMs: nowMs + 60_001 } }),
    "server a0",
    /1m ahead/,
  ],
  [
    "a daemon without protection",
    (all) => set(all.a0, { info: { ...info("archive", "pc2"), security: "insecure" } }),
    "server a0",
    /from anybody/,
  ],
  [
    "a daemon without the key",
    (all) => set(all.a0, { info: { ...info("archive", "pc2"), security: "loopback" } }),
    "server a0",
    /runs without/,
  ],
  ["one node id twice", (all) => set(all.a1, { info: info("archive", "pc2") }), "server a1", /node id pc2/],
  [
    "different versions",
    (all) => set(all.a1, { info: { ...info("archive", "pc3"), version: "2" } }),
    "servers",
    /different versions/,
  ],
  [
    "a storage with another archive",
    (all) => set(all.s0.storage, { archive: "pc3:10200" }),
    "server s0",
    /--archive pc3:10200/,
  ],
  [
    "a storage with an unknown proxy",
    (all) => set(all.s0.storage, { proxies: [{ address: "pc9:10100", isAvailable: true }] }),
    "server s0",
    /not in \[servers\]/,
  ],
  [
    "a storage that cannot reach its proxy",
    (all) => set(all.s0.storage, { proxies: [{ address: "pc2:10100", isAvailable: false }] }),
    "server s0",
    /could not reach/,
  ],
  [
    "for how long a storage cannot reach its proxy, and why",
    (all) =>
      set(all.s0.storage, {
        proxies: [
          {
            address: "pc2:10100",
            isAvailable: false,
            checkedMs: nowMs - 900,
            sinceMs: nowMs - 65_000,
            error: "refused",
          },
        ],
      }),
    "server s0",
    /could not reach the proxy pc2:10100 for 1m 5s: refused/,
  ],
  [
    "a proxy that was started after a storage asked it, by whatever clock",
    (all) => {
      set(all.s0.storage, {
        proxies: [
          {
            address: "pc2:10100",
            isAvailable: false,
            checkedMs: nowMs - 7000,
            sinceMs: nowMs - 65_000,
            nextCheckMs: nowMs + 3000,
          },
        ],
      });
      set(all.p0, { info: { ...all.p0.info!, startedMs: nowMs - 1500, nowMs: nowMs + 1500 } });
    },
    "server s0",
    /has not asked the proxy pc2:10100 since that was started 3s ago/,
  ],
  ["an archive that is nearly full", (all) => set(all.a0.archive, { freeBytes: 1 }), "server a0", /only 1B of 100B/],
  [
    "a volume that no storage has",
    (all) => set(storageVolume(all), { state: "Clear" }),
    "volume vol0",
    /no storage has it/,
  ],
  [
    "another device",
    (all) => set(storageVolume(all), { device: { kind: "user", name: "vol7" } }),
    "volumes.vol0.device",
    /vol7 at s0/,
  ],
  [
    "an overflow",
    (all) => set(storageVolume(all), { isOverflow: true, state: "Stopped" }),
    "volume vol0",
    /overflowed/,
  ],
  [
    "a volume without a backup",
    (all) => set(storageVolume(all), { state: "SyncReady" }),
    "volume vol0",
    /not being backed up/,
  ],
  ["a log that is nearly full", (all) => set(storageVolume(all), { logUsagePb: 90 }), "volume vol0", /90 % of its log/],
  [
    "a proxy that does not know the volume",
    (all) => set(all.p0.proxy, { volumes: [] }),
    "volume vol0",
    /proxy p0 does not know/,
  ],
  [
    "a proxy without the primary archive",
    (all) => set(all.p0.proxy.volumes[0]!, { archives: [] }),
    "volume vol0",
    /does not send it to the primary/,
  ],
  [
    "a proxy with an old address",
    (all) => set(all.p0.proxy.volumes[0]!.archives[0]!, { address: "pc9:10200" }),
    "volume vol0",
    /sends it to pc9:10200/,
  ],
  [
    "a volume stopped at a proxy",
    (all) => set(all.p0.proxy.volumes[0]!, { state: "Stopped" }),
    "volume vol0",
    /Stopped at the proxy/,
  ],
  [
    "a replica that is not there",
    (all) => set(all.a1.archive, { volumes: [] }),
    "volume vol0",
    /archive a1 does not know/,
  ],
  [
    "an image that is too small",
    (all) => set(storageVolume(all), { sizeLb: 2000 }),
    "volume vol0",
    /1000 LB, the volume 2000/,
  ],
];

describe("walb check finds at the servers", () => {
  test.each(atServers)("%s", (_, change, place, words) => {
    const all = checkAnswers(change);
    const found = all.filter((finding) => finding.place === place).map(({ what }) => what);
    expect(found.join("\n")).toMatch(words);
  });

  test("two storages that ship one volume", () => {
    const text = good.replace("[servers.p0]", '[servers.s1]\nrole = "storage"\naddress = "pc4:10000"\n[servers.p0]');
    const fleet = parseFleet(text, "walb.toml");
    const all = answers();
    const second = {
      ...all.s0,
      server: fleet.servers.find(({ name }) => name === "s1")!,
      info: info("storage", "pc4"),
    };
    const findings = new Findings();
    checkServers(fleet, [...Object.values(all), second], findings);
    expect(findings.all.map(({ what }) => what).join("\n")).toMatch(/s0 and s1 ship it both/);
  });

  test("a mistake never hides another", () => {
    const all = checkAnswers((given) => {
      set(storageVolume(given), { isOverflow: true });
      set(given.a0.archive, { freeBytes: 1 });
      set(given.p0.proxy, { volumes: [] });
    });
    expect(all).toHaveLength(3);
  });
});
