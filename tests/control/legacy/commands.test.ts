import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { runSnapshot, runVersion } from "../../../src/wire/commands.ts";
import { LegacySite } from "./site.ts";

const times = (line: string): string => line.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/g, "TIME");

describe("the original's commands", () => {
  let site: LegacySite;
  const firstLine = async (...args: Parameters<LegacySite["refusal"]>) => (await site.refusal(...args)).split("\n")[0];

  beforeAll(async () => {
    site = new LegacySite(1);
    await site.open();
    await site.backUp("vol0", "vv0");
  });
  afterAll(() => site.close());

  test("are refused in the original's words on a volume that is not there, with ours behind them", async () => {
    const texts = [
      await firstLine("s0", "clear-vol", ["novol"]),
      await firstLine("s0", "reset-vol", ["novol"]),
      await firstLine("s0", "snapshot", ["novol"]),
      await firstLine("s0", "resize", ["novol", "1m"]),
      await firstLine("s0", "resize", ["vol0", "0"]),
      await firstLine("s0", "stop", ["vol0", "empty"]),
      await firstLine("s0", "init-vol", ["novol", "/dev/walb/nosuch"]),
      await firstLine("s0", "clear-vol", ["a", "b", "c", "d"]),
      await firstLine("s0", "init-vol", []),
      await firstLine("p0", "start", ["bad_name"]),
      await firstLine("p0", "kick", ["novol"]),
      await firstLine("p0", "start", ["vol0"]),
      await firstLine("a0", "init-vol", ["vol0"]),
      await firstLine("a0", "start", ["vol0"]),
      await firstLine("s0", "get", ["nosuch", "vol0"]),
      await firstLine("s0", "get", []),
      await firstLine("s0", "get", ["state"]),
      await firstLine("s0", "get", ["is-overflow", "novol"]),
      await firstLine("s0", "get", ["log-usage", "novol"]),
      await firstLine("s0", "get", ["latest-snap", "novol"]),
      await firstLine("p0", "get", ["is-wdiff-send-error", "vol0", "zz"]),
    ];
    expect(texts).toEqual([
      "c2sClearVolServer:StateMachineTransaction:bad state:Clear:SyncReady:ClearVol",
      ":StateMachineTransaction:bad state:Clear:Stopped:Reset",
      "c2sSnapshotServer:bad state:Clear",
      "c2sResizeServer:bad state:Clear",
      "parseResizeParam:size param must not be 0",
      "parseStopParam:stop empty is not allowed.",
      "StorageVolInfo:not found:/dev/walb/nosuch",
      "c2sClearVolServer:bad size:1:4",
      "c2sInitVolServer:bad size:2:0",
      "bad volId format: bad character:bad_name:_",
      "c2pKickServer:bad state:Clear",
      "bad state:Started",
      "c2aInitVolServer:StateMachineTransaction:bad state:Archived:Clear:InitVol",
      "c2aStartServer:StateMachineTransaction:bad state:Archived:Stopped:Start",
      "runGetCommandServer:no such target:nosuch",
      "runGetCommandServer:no target specified",
      "missing required params: 0 1",
      "isOverflow:bad state:Clear",
      "getLogUsageForVolume:bad state:novol:Clear",
      "getLatestSnap:could not get latest snapshot for volume:novol",
      "isWdiffSendError:bad archive name:vol0:zz",
    ]);
    const ours = (await site.refusal("s0", "snapshot", ["novol"])).split("\n")[1];
    expect(ours).toContain("the storage does not know this volume (make it first: walb init novol --device NAME)");
  });

  test("status has the original's lines", async () => {
    expect((await site.status("s0", "vol0")).map(times)).toEqual([
      "hostType storage",
      "volId vol0",
      "state Target",
      "action WlogSend 0 WlogRemove 0",
      "stopState NotStopping",
      "isUnderMonitoring 1",
      "wdevPath /dev/walb/vv0",
      "sizeLb 2048",
      "size 1m",
      "isOverflow 0",
      "logUsagePb 0",
      expect.stringMatching(/^logCapacityPb \d+$/),
      expect.stringMatching(/^uuid [0-9a-f]{32}$/),
      "pbs 4096",
      expect.stringMatching(/^salt [0-9a-f]+$/),
      "-----DoneFile-----",
      "LsidGid timestamp TIME isMergeable 0 lsid 0 gid 1",
      "-----QueueFile-----",
    ]);
    expect((await site.status("p0", "vol0")).map(times)).toEqual([
      "hostType proxy",
      "volume vol0",
      "state Started",
      "sizeLb 2048",
      "size 1m",
      "numDiff 0",
      "totalSize 0",
      "lastWlogReceivedTime TIME",
      "totalNumAction 0",
      "-----Archive-----",
      "  archive a0",
      "  host a0:10200",
      "  compression snappy:0:1",
      "  wdiffSendDelay 0",
      "  action None",
      "  numDiff 0",
      "  lastWdiffSentTime TIME",
      "  isWdiffSendError 0",
      "  wdiffTotalSize 0",
      "  wdiffSendDelayMeasured 0",
    ]);
    const archive = (await site.status("a0", "vol0")).map(times);
    expect(archive.slice(0, 7)).toEqual([
      "hostType archive",
      "volume vol0",
      "state Archived",
      "action Merge 0 Apply 0 Restore 0 ReplSyncAsClient 0 Resize 0",
      "stopState NotStopping",
      "lastSyncTime TIME",
      "lastWdiffReceivedTime TIME",
    ]);
    expect(archive.slice(-1)).toEqual(["fullReplState None"]);
    for (const server of ["s0", "p0", "a0"] as const) {
      expect(await site.status(server, "novol")).toHaveLength(3);
      expect((await site.status(server)).find((line) => line.startsWith("volume vol0 state "))).toBeDefined();
    }
  });

  test("get knows every target that needs nothing of other features", async () => {
    expect(await site.get("s0", "vol")).toEqual(["vol0"]);
    expect(await site.get("s0", "pid")).toBe(4711);
    expect(await site.get("s0", "is-overflow", "vol0")).toBe(0);
    expect((await site.get("s0", "log-usage"))[0]).toMatch(/^name:vol0\tusage_pb:0\tcapacity_pb:\d+\tpbs:4096$/);
    expect(await site.get("s0", "uuid", "vol0")).toBe(await site.get("a0", "uuid", "vol0"));
    const gid = await site.snapshot("vol0");
    expect(times((await site.get("s0", "latest-snap", "vol0"))[0]!)).toStartWith(
      `name:vol0\tkind:storage\tgid:${gid}\tlsid:0\ttimestamp:TIME`,
    );
    expect((await site.get("a0", "restorable", "vol0")).map(times)).toContain(`${gid} TIME 1`);
    expect(await site.get("a0", "exists-diff", "vol0", "1", "1", `${gid}`, `${gid}`)).toBe(true);
    expect(await site.get("a0", "meta-snap", "vol0")).toBe(`|${gid}|`);
    expect(await site.get("a0", "meta-state", "vol0", "1", `${gid}`)).toMatch(/^<\|0,1\|-->\|2\|>-\d{14}$/);
    expect(await site.get("a0", "all-actions")).toEqual([
      "vol0 Merge 0 --- Apply 0 --- Restore 0 --- ReplSyncAsClient 0 --- Resize 0 ---",
    ]);
    expect(await site.get("p0", "proxy-diff", "vol0", "a0")).toEqual([]);
    expect(await site.get("p0", "latest-snap")).toEqual(["name:vol0\tkind:proxy\tarchive:a0\tgid:\ttimestamp:"]);
    expect(await site.get("p0", "is-wdiff-send-error", "vol0", "a0")).toBe(0);
    const statistics = await site.get("a0", "handler-stat");
    expect(statistics).toContainEqual(expect.stringMatching(/^GET_COUNT\trestorable\tctl\t\d+$/));
    expect(statistics).toContainEqual(expect.stringMatching(/^PROTOCOL_LATENCY\tget\t\d+\.\d{6}$/));
    expect((await site.get("a0", "handler-stat")).filter((line) => line.startsWith("GET_COUNT"))).toHaveLength(1);
  });

  test("stop answers accept at once and start waits for it", async () => {
    await site.command("s0", "stop", ["vol0"], "accept");
    await site.until("Stopped", async () => (await site.get("s0", "state", "vol0")) === "Stopped");
    await site.command("s0", "start", ["vol0", "target"]);
    await site.command("p0", "stop", ["vol0", "empty"], "accept");
    await site.until("Stopped", async () => (await site.get("p0", "state", "vol0")) === "Stopped");
    await site.command("p0", "start", ["vol0"]);
    await site.command("a0", "stop", ["vol0", "force"], "accept");
    await site.until("Stopped", async () => (await site.get("a0", "state", "vol0")) === "Stopped");
    await site.command("a0", "start", ["vol0"]);
    // As the original: told to be accepted, whatever the state is.
    await site.command("s0", "stop", ["novol"], "accept");
    expect(await site.get("s0", "state", "novol")).toBe("Clear");
  });

  test("a job is accepted only when nothing can refuse it any more", async () => {
    await site.write("vv0", 8, 16, 7);
    const gid = await site.snapshot("vol0");
    expect(await firstLine("s0", "full-bkp", ["vol0"])).toContain("bad state:Target:SyncReady:FullSync");
    expect(await firstLine("a0", "apply", ["vol0", "0"])).toStartWith("verifyApplicable:gid not applicable:vol0:0");
    expect(await firstLine("a0", "merge", ["vol0", `${gid}`, "gid", `${gid + 1n}`])).toBe(
      "verifyMergeable:There is no mergeable diff.",
    );
    await site.command("a0", "apply", ["vol0", `${gid}`], "accept");
    await site.until("apply", async () => (await site.get("a0", "base", "vol0")).startsWith(`<|${gid}|>`));
    expect(await site.talk("s0", "snapshot", (stream) => runSnapshot(stream, "vol0"))).toBe(gid + 1n);
  });

  test("an archive replicates to another one, and tells its refusal", async () => {
    const to = "a1:10201";
    expect(await firstLine("a0", "replicate", ["vol0", "size", "0", to])).toStartWith("runReplSync1stNegotiation:");
    expect(await firstLine("a0", "replicate", ["vol0", "weight", "0", to])).toBe("parseReplicateParam:bad type:weight");
    expect(await firstLine("a0", "replicate", ["novol", "size", "0", to])).toBe("c2aReplicateServer:bad state:Clear");
    await site.command("a1", "init-vol", ["vol0"]);
    await site.command("a0", "replicate", ["vol0", "size", "0", to, "0", "0", "zstd:3:2", "1g", "64k"], "accept");
    const newest = async (name: "a0" | "a1") => (await site.get(name, "restorable", "vol0")).at(-1);
    await site.until("the replication", async () => (await newest("a1")) === (await newest("a0")));
    expect(await site.get("a1", "state", "vol0")).toBe("Archived");
    expect((await site.get("a0", "ts-delta")).map(times)).toContainEqual(
      expect.stringMatching(
        /^name:vol0\tdest:a1\tkind:archive\tdest_kind:archive\tgid:\d+\tts:TIME\tdest_gid:\d+\tdest_ts:TIME\tts_delta:\d+$/,
      ),
    );
  });

  test("an archive restores to images it keeps, and changes and deletes what it has", async () => {
    const gids = (await site.get("a0", "restorable", "vol0")).map((line) => line.split(" ")[0]!);
    const gid = gids.at(-1)!;
    await site.command("a0", "restore", ["vol0", gid], "accept");
    await site.until("the restore", async () => (await site.get("a0", "num-action", "vol0", "Restore")) === 0);
    expect(await site.get("a0", "restored", "vol0")).toEqual([gid]);
    expect(await firstLine("a0", "restore", ["vol0", gid])).toBe(`c2aRestoreServer:already restored:vol0:${gid}`);
    expect(await firstLine("a0", "restore", ["vol0", "99"])).toBe("verifyRestorable:bad gid to restore:vol0:99");
    expect(await firstLine("a0", "del-restored", ["vol0", "99"])).toBe("delSnapshot:volume not found:vol0:99:restored");
    await site.command("a0", "del-restored", ["vol0", gid]);
    expect(await site.get("a0", "restored", "vol0")).toEqual([]);
    expect(await firstLine("a0", "disable-snapshot", ["vol0", "99"])).toBe(
      "changeSnapshot:change snapshot failed:vol0:0",
    );
    expect(await firstLine("a0", "del-cold", ["vol0", "99"])).toBe("delSnapshot:volume not found:vol0:99:cold");
    await site.command("a0", "gc-diff", ["vol0"]);
    await site.command("a0", "resize", ["vol0", "2m", "zeroclear"]);
    expect(await site.get("a0", "vol-size", "vol0")).toBe(4096);
  });

  test("a proxy and a storage take what is for them alone", async () => {
    await site.command("s0", "set-full-scan-bps", ["128k"]);
    expect(await site.status("s0")).toContain("fullScanLbPerSec 256");
    await site.command("s0", "set-full-scan-bps", ["0"]);
    expect(await firstLine("s0", "dbg-dump-logpack-header", ["novol", "0"])).toBe(
      "c2sDumpLogpackHeaderServer:not found:novol",
    );
    await site.command("p0", "kick", ["vol0", "a0"]);
    expect(await firstLine("p0", "kick", ["vol0", "zz"])).toBe("c2pKickServer:archive does not exist:zz");
    expect(await firstLine("p0", "resize", ["vol0", "2m"])).toBe("c2pResizeServer:bad state:Started");
    await site.world.run(70_000);
    expect((await site.get("s0", "ts-delta")).map(times)).toEqual([
      expect.stringMatching(
        /^name:vol0\tdest:a0\tkind:storage\tdest_kind:archive\tgid:\d+\tts:TIME\tdest_gid:\d+\tdest_ts:TIME\tts_delta:\d+$/,
      ),
    ]);
  });

  test("version and sleep are answered, exec by what the process allows", async () => {
    expect(await site.talk("p0", "version", runVersion)).toMatch(/^version:\d+\.\d+\.\d+\tlog_version:2$/);
    const startMs = site.world.nowMs();
    const answer = await site.talk("s0", "sleep", async (stream) => {
      stream.put((encoder) => encoder.u64(2));
      return stream.read("the answer", (decoder) => decoder.string("answer", 1000), 10_000);
    });
    expect(answer).toBe("ok");
    expect(site.world.nowMs() - startMs).toBeGreaterThanOrEqual(2_000);
    expect(await firstLine("s0", "exec", ["/bin/false"])).toContain("child process has returned non-zero:256");
  });
});
