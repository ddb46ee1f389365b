import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Lvm, parseLvmPlace } from "../../src/image/lvm/lvm.ts";
import { type LvRole, lvName, parseLvName } from "../../src/image/lvm/names.ts";
import { awaitPredecessor } from "../../src/image/lvm/predecessor.ts";
import { errnoError } from "../../src/native/errno.ts";
import type { CommandResult, Commands } from "../../src/platform/commands.ts";
import { createClock } from "../../src/platform/real/clock.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

/** Commands that answer by name, and remember what was asked. */
function scripted(answers: Record<string, Partial<CommandResult> | readonly Partial<CommandResult>[]>) {
  const asked: string[] = [];
  const commands: Commands = {
    run: async (argv) => {
      asked.push(argv.join(" "));
      const answer = answers[argv[0]!];
      const times = asked.filter((line) => line.startsWith(argv[0]!)).length - 1;
      const one = Array.isArray(answer) ? answer[Math.min(times, answer.length - 1)] : answer;
      return { exitCode: 0, stdout: "", stderr: "", ...(one as Partial<CommandResult>) };
    },
  };
  return { asked, commands };
}

describe("names of logical volumes", () => {
  test("are those of the original", () => {
    expect(lvName({ kind: "base", volume: "vol0" })).toBe("wb_vol0");
    expect(lvName({ kind: "restored", volume: "vol0", gid: 7n })).toBe("wr_vol0_7");
    expect(lvName({ kind: "restoring", volume: "vol0", gid: 7n })).toBe("wr_vol0_7_tmp");
    expect(lvName({ kind: "cold", volume: "vol0", gid: 7n })).toBe("wc_vol0_7");
    expect(lvName({ kind: "promoting", volume: "vol0", gid: 7n })).toBe("wb_vol0_7_tmp");
  });

  test("say what they were made from, for every volume and gid", () => {
    const role = fc.record({
      kind: fc.constantFrom("restored", "restoring", "cold", "promoting"),
      volume: fc.stringMatching(/^[0-9A-Za-z-]{1,64}$/),
      gid: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    });
    fc.assert(
      fc.property(role, (wanted) => {
        expect(parseLvName(lvName(wanted as LvRole))).toEqual(wanted as LvRole);
        expect(parseLvName(lvName({ kind: "base", volume: wanted.volume }))).toEqual({
          kind: "base",
          volume: wanted.volume,
        });
      }),
    );
  });

  test("of other volumes in the group are none of an archive", () => {
    const names = ["root", "wb_", "wr_vol0", "wr_vol0_x", "wc_vol0_7_tmp", "wb_vol0_7", "i_vol0", "wr_vol0_007"];
    for (const name of [...names, `wr_vol0_${2n ** 64n}`]) expect(parseLvName(name)).toBeUndefined();
  });
});

describe("the place of images", () => {
  test("is a volume group, or a thin pool in it", () => {
    expect(parseLvmPlace("vg0")).toEqual({ group: "vg0", pool: undefined });
    expect(parseLvmPlace("vg0/tp0")).toEqual({ group: "vg0", pool: "tp0" });
    for (const text of ["", "/", "a/b/c", "-x", "a;b", "a b"]) expect(() => parseLvmPlace(text)).toThrow();
  });
});

describe("LVM", () => {
  const row =
    "  wb_a,,8388608,vg,,owi-a-s---,,\n  wr_a_3,wb_a,12582912,vg,,swi-a-s---,12.50,\n  thin,,4194304,vg,tp,Vri-a-tz--,0.00,\n";

  test("lists classic volumes without a pool, and those of the pool with one", async () => {
    const { commands, asked } = scripted({ lvs: { stdout: `${row}  tp,,4194304,vg,,twi-aotz--,91.20,3.00\n` } });
    const classic = await new Lvm({ group: "vg", pool: undefined }, commands, createClock()).list();
    expect(classic.map(({ name }) => name)).toEqual(["wb_a", "wr_a_3"]);
    expect(classic[1]).toMatchObject({
      origin: "wb_a",
      sizeBytes: 8388608,
      isReadOnly: false,
      isInvalid: false,
      usedPercent: 12.5,
    });
    const thin = await new Lvm({ group: "vg", pool: "tp" }, commands, createClock()).list();
    expect(thin.map(({ name, isReadOnly }) => [name, isReadOnly])).toEqual([["thin", true]]);
    expect(asked[0]).toBe(
      "lvs --units=b --nosuffix --options=lv_name,origin,lv_size,vg_name,pool_lv,lv_attr,data_percent,metadata_percent --separator=, --noheadings --unbuffered vg",
    );
  });

  test("tries again while a device is open elsewhere, and gives up with what LVM said", async () => {
    const busy = { exitCode: 5, stderr: "  Logical volume vg/wb_a in use.\n" };
    const { commands, asked } = scripted({ lvs: { stdout: row }, lvremove: [busy, busy, {}] });
    let nowMs = 0;
    const clock = {
      ...createClock(),
      monotonicMs: () => nowMs,
      sleep: async (delayMs: number) => {
        nowMs += delayMs;
      },
    };
    await new Lvm({ group: "vg", pool: undefined }, commands, clock).remove("wb_a");
    expect(asked.filter((line) => line.startsWith("lvremove")).length).toBe(3);
    const never = scripted({ lvs: { stdout: row }, lvremove: busy });
    const removal = new Lvm({ group: "vg", pool: undefined }, never.commands, clock).remove("wb_a");
    await expect(removal).rejects.toMatchObject({ code: "state", what: expect.stringContaining("in use") });
    // Each try of the real one takes seconds itself: it is the time that ends them.
    const slow = scripted({ lvs: { stdout: row }, lvremove: busy });
    const commands2: Commands = {
      run: (argv) => {
        nowMs += 5_100;
        return slow.commands.run(argv);
      },
    };
    const slowly = new Lvm({ group: "vg", pool: undefined }, commands2, clock).remove("wb_a");
    await expect(slowly).rejects.toMatchObject({ code: "state" });
    expect(slow.asked.filter((line) => line.startsWith("lvremove")).length).toBeLessThanOrEqual(2);
  });

  test("takes a classic volume that has a cache for what it is", async () => {
    const { commands } = scripted({
      lvs: { stdout: "  wb_a,[wb_a_corig],8388608,vg,[fast_cpool],Cwi-aoC---,0.50,4.00\n" },
    });
    const classic = await new Lvm({ group: "vg", pool: undefined }, commands, createClock()).list();
    expect(classic.map(({ name }) => name)).toEqual(["wb_a"]);
  });

  test("refuses a pool that gives out blocks with what was in them", async () => {
    const vgs = { stdout: "  1048576,8388608,4194304\n" };
    const lvs = [{ stdout: "  8388608,0.00\n" }, { stdout: "  tp,,8388608,vg,,twi-aot---,0.00,10.00\n" }];
    const { commands } = scripted({ vgs, lvs });
    const check = new Lvm({ group: "vg", pool: "tp" }, commands, createClock()).check();
    await expect(check).rejects.toMatchObject({
      code: "state",
      hint: expect.stringContaining("lvchange --zero y vg/tp"),
    });
  });

  test("is asked once by all who ask while it does not answer", async () => {
    const answer = Promise.withResolvers<CommandResult>();
    let count = 0;
    const commands: Commands = {
      run: () => {
        count += 1;
        return answer.promise;
      },
    };
    let nowMs = 0;
    const lvm = new Lvm({ group: "vg", pool: undefined }, commands, { ...createClock(), monotonicMs: () => nowMs });
    const lists = [lvm.list()];
    nowMs += 60_000;
    lists.push(lvm.list());
    answer.resolve({ exitCode: 0, stdout: row, stderr: "" });
    expect((await Promise.all(lists)).map(({ length }) => length)).toEqual([2, 2]);
    expect(count).toBe(1);
    nowMs += 2_000;
    await lvm.list();
    expect(count).toBe(2);
  });

  test("says that space is short when LVM says so", async () => {
    const full = { exitCode: 5, stderr: '  Volume group "vg" has insufficient free space (3 extents): 4 required.\n' };
    const { commands } = scripted({ lvcreate: full });
    const lvm = new Lvm({ group: "vg", pool: undefined }, commands, createClock());
    await expect(lvm.create("wb_a", 1 << 24)).rejects.toMatchObject({ code: "no-space" });
    const pool = "  Cannot create new thin volume, free space in thin pool vg/tp reached threshold.\n";
    const thin = scripted({ lvcreate: { exitCode: 5, stderr: pool } });
    const create = new Lvm({ group: "vg", pool: "tp" }, thin.commands, createClock()).create("wb_a", 1 << 24);
    await expect(create).rejects.toMatchObject({ code: "no-space" });
  });

  test("says what to do about a pool that takes no changes, or that a write found no room in", async () => {
    const stderr =
      "  Cannot send messages to thin pool vg-tp-tpool (254:2) with read only metadata.\n  Failed to suspend vg/wb_a.\n";
    const { commands } = scripted({ lvrename: { exitCode: 5, stderr } });
    const lvm = new Lvm({ group: "vg", pool: "tp" }, commands, createClock());
    const failure = { code: "read-only", hint: expect.stringContaining("lvconvert --repair") };
    await expect(lvm.rename("wb_a_1_tmp", "wb_a")).rejects.toMatchObject(failure);
    const enospc = 28;
    expect(errnoError("write", enospc, { file: "/dev/vg/wb_a" }).hint).toContain("lvextend");
    expect(errnoError("write", enospc, { file: "/srv/a" }).hint).toContain("file system");
  });

  test("refuses output that it does not understand", async () => {
    for (const stdout of ["  a,b\n", "  wb_a,,12x,vg,,-wi-a-----,,\n", "  wb_a,,-1,vg,,-wi-a-----,,\n"]) {
      const { commands } = scripted({ lvs: { stdout } });
      const lvm = new Lvm({ group: "vg", pool: undefined }, commands, createClock());
      await expect(lvm.list()).rejects.toMatchObject({ code: "bad-format" });
    }
  });
});

describe("programs of the host", () => {
  const platform = createPlatform({ threads: 2 });
  const { commands, disk } = platform as Required<typeof platform>;
  afterAll(() => closePlatform(platform));

  test("are run without a shell, with their exit code and what they said", async () => {
    expect(await commands.run(["sh", "-c", 'echo "$0"; echo bad >&2; exit 3', "a b;c"])).toEqual({
      exitCode: 3,
      stdout: "a b;c\n",
      stderr: "bad\n",
    });
  });

  test("that are missing, hang or are given up are errors of their own", async () => {
    await expect(commands.run(["no-such-program-of-walb"])).rejects.toMatchObject({ code: "not-found" });
    await expect(commands.run(["sleep", "60"], { timeoutMs: 50 })).rejects.toMatchObject({ code: "timed-out" });
    const abort = new AbortController();
    const running = commands.run(["sleep", "60"], { signal: abort.signal });
    abort.abort(new Error("given up"));
    await expect(running).rejects.toThrow("given up");
  });

  test("that cannot be ended, or leave their output to others, keep nobody waiting", async () => {
    const held = commands.run(["sh", "-c", "sleep 20; true"], { timeoutMs: 50 });
    const deaf = commands.run(["sh", "-c", "trap '' TERM; exec sleep 20"], { timeoutMs: 50, ending: "ask" });
    const timedOut = { status: "rejected", reason: { code: "timed-out" } };
    expect(await Promise.allSettled([held, deaf])).toMatchObject([timedOut, timedOut]);
    // One that finishes its work although it was asked to end has done it.
    const late = commands.run(["sh", "-c", "trap '' TERM; sleep 0.5; echo done"], { timeoutMs: 50, ending: "ask" });
    expect(await late).toMatchObject({ exitCode: 0, stdout: "done\n" });
  });

  test("keep a file locked until they have ended, when nobody waits for them any more, too", async () => {
    await withTemporaryDirectory(async (directory) => {
      const keepsLocked = `${directory}/lock`;
      const mark = `${directory}/mark`;
      const alone = () => disk.open(keepsLocked, { mode: "read", lock: true });
      const deaf = ["sh", "-c", `trap '' TERM; cat; sleep 4; touch ${mark}`];
      const left = commands.run(deaf, { timeoutMs: 50, ending: "ask", keepsLocked });
      // Others at the same time are not kept from it.
      expect(await commands.run(["cat"], { keepsLocked })).toMatchObject({ exitCode: 0, stdout: "" });
      await expect(left).rejects.toMatchObject({ code: "timed-out" });
      await expect(alone()).rejects.toMatchObject({ code: "locked" });
      // Whoever starts waits for it, and says so once.
      let waits = 0;
      await awaitPredecessor(disk, createClock(), keepsLocked, () => {
        waits += 1;
      });
      expect([waits, (await disk.info(mark)) !== undefined]).toEqual([1, true]);
      await (await alone()).close();
    });
  });
});
