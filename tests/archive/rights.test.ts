import { expect, test } from "bun:test";
import { overrideLack, withoutOverride } from "../helpers/without-override.ts";

const noBackupAnew = expect.not.stringMatching(/reset|move .* aside/);

/** What cannot be read is told, by restores, applies, verify and status, until it can be again; diffs come in all the while. */
function during(error: object, damage: string): object {
  const told = expect.objectContaining(error);
  return {
    restore: told,
    apply: told,
    status: told,
    afterRestart: told,
    state: "Archived",
    statusAfterRestart: told,
    delivery: "accept",
    damage: [expect.stringContaining(damage)],
    troubleBehind: "none",
    isAllThere: true,
  };
}

test.skipIf(overrideLack !== undefined)(
  "what an archive may not read, and a base image that is missing or short, is told with what to do until it is right again, and costs nothing",
  async () => {
    const found = await withoutOverride(`${import.meta.dir}/programs/without-rights.ts`);
    const who = (file: string) => ({
      code: "unreadable",
      message: expect.stringMatching(
        new RegExp(`${file}: .*Permission denied \\(EACCES\\); until .* cannot be restored`),
      ),
      hint: expect.stringMatching(new RegExp(`^walb runs as uid \\d+, .*namei -l /.*/vol0/.*${file}`)),
    });
    const lost = (what: string) => ({
      code: "damaged",
      message: expect.stringMatching(new RegExp(`base.img: ${what}; without it these points are lost: gid 0 .*gid 1 `)),
      hint: expect.stringMatching(
        /^put it back from a copy.*walb verify vol0 --server \S+; or begin anew.*walb backup vol0$/,
      ),
    });
    const gone = {
      code: "unreadable",
      message: expect.stringMatching(/vol0: the volume's directory, or what is mounted there, is gone/),
      hint: expect.stringMatching(/^move it back, or mount it again; nothing is lost/),
    };
    expect(found).toEqual({
      directories: {
        directoryAway: {
          status: expect.objectContaining(gone),
          restore: gone,
          apply: gone,
          delivery: "archive-not-found",
          damage: expect.arrayContaining([expect.objectContaining({ code: "unreadable", hint: gone.hint })]),
        },
        directoryBack: {
          status: "none",
          delivery: "accept",
          statusBehind: "none",
        },
        replaced: {
          status: expect.objectContaining({
            code: "unreadable",
            message: expect.stringContaining("was replaced while the archive had it open"),
            hint: expect.stringContaining("restart the archive"),
          }),
          delivery: "archive-not-found",
        },
        unsearchable: expect.objectContaining({
          state: "Broken",
          trouble: expect.objectContaining({
            code: "io",
            hint: expect.stringMatching(/walb runs as uid .*restart the daemon$/),
          }),
        }),
        searchable: "none",
      },
      unreadableDiff: during(who("-2-3.wdiff"), "Permission denied"),
      others: [0, 2],
      unreadableBase: during(who("base.img"), "Permission denied"),
      missingBase: during(lost("the base image is missing"), "is missing"),
      shortBase: during(lost("the base image has 460288 bytes, but the volume 460800"), "but the volume 460800"),
    });
    const { unreadableDiff, unreadableBase } = found as Record<string, { restore: { hint: string } }>;
    for (const one of [unreadableDiff, unreadableBase]) expect(one!.restore.hint).toEqual(noBackupAnew);
  },
  60_000,
);
