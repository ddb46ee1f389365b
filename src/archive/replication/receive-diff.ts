/**
 * @module Receives a diff of a replication: of a log, or of a comparison of images.
 *
 * Order: file complete → manifest, when its log is new → fsync, final name, fsync of the directory → row, without the
 * diffs it makes redundant → their files removed → Ack.
 */
import type { DiffIo } from "../../diff/types.ts";
import { WalbError } from "../../errors.ts";
import { relation } from "../../snapshot/algebra.ts";
import { garbageInRange } from "../../snapshot/collect.ts";
import { diffFileName } from "../../snapshot/filename.ts";
import { diffText, snapshotText } from "../../snapshot/text.ts";
import { timestampMaxS } from "../../snapshot/time.ts";
import type { DiffMeta, Snapshot } from "../../snapshot/types.ts";
import type { PackSink, ReceivedPack } from "../../wire/pack-stream.ts";
import { requireGid } from "../full-sync.ts";
import { keptBehind } from "../plan.ts";
import { announceLog, ReceivedFile, registerFile } from "../receive.ts";
import type { ArchiveVolume } from "../volume.ts";

/**
 * The diff as it is kept, see {@link keptBehind}.
 * @throws WalbError `state` when it does not lead on from `latest`, `out-of-range`.
 */
export function keptDiff(diff: DiffMeta, latest: Snapshot): DiffMeta {
  requireGid(diff.to);
  if (diff.timestampS > timestampMaxS) {
    throw new WalbError("out-of-range", {
      what: `the time ${diff.timestampS} cannot be`,
      where: { field: "timestamp" },
    });
  }
  const how = relation(latest, diff);
  if (how !== "applicable") {
    throw new WalbError("state", {
      what: `the diff ${diffText(diff)} does not lead on from ${snapshotText(latest)}: ${how.replace("-", " ")}`,
      hint: "replicate again",
    });
  }
  return keptBehind(diff, latest);
}

/** A diff being received. */
export class DiffTurn implements PackSink {
  readonly #volume: ArchiveVolume;
  readonly #diff: DiffMeta;
  readonly #uuid: string;
  readonly #nextLogUuid: string | undefined;
  readonly #ended: () => Promise<void>;
  #file: ReceivedFile | undefined;

  private constructor(
    volume: ArchiveVolume,
    diff: DiffMeta,
    uuid: string,
    nextLogUuid: string | undefined,
    file: ReceivedFile,
    ended: () => Promise<void>,
  ) {
    this.#volume = volume;
    this.#diff = diff;
    this.#uuid = uuid;
    this.#nextLogUuid = nextLogUuid;
    this.#file = file;
    this.#ended = ended;
  }

  /**
   * @param diff see {@link keptDiff}. @param uuid of the log it comes from. @param nextLogUuid log to be followed from
   * then on, when that changes. @param ended called once, when all is over. @throws WalbError `no-space`.
   */
  static async begin(
    volume: ArchiveVolume,
    diff: DiffMeta,
    uuid: string,
    nextLogUuid: string | undefined,
    io: DiffIo,
    ended: () => Promise<void>,
  ): Promise<DiffTurn> {
    const file = await ReceivedFile.createFor(volume, io, uuid, diff.dataSizeBytes, "this diff");
    return new DiffTurn(volume, diff, uuid, nextLogUuid, file, ended);
  }

  write(pack: ReceivedPack): Promise<void> {
    return this.#file!.write(pack);
  }

  async finish(): Promise<void> {
    const volume = this.#volume;
    const { store, platform } = volume;
    const file = this.#file!;
    const { sizeBytes, contentLb } = await file.complete();
    const meta = { ...this.#diff, dataSizeBytes: sizeBytes };
    const fileName = diffFileName(meta);
    const isNewLog = this.#nextLogUuid !== undefined;
    await announceLog(volume, this.#uuid);
    await file.commit(fileName);
    this.#file = undefined;
    const { from, to } = meta;
    const before = store.set;
    const gone = garbageInRange(before, from.gidB, to.gidB).concat(before.get(meta) ?? []);
    const rows = gone.map((known) => store.diff(known));
    const added = { fileName, meta, uuid: this.#uuid, contentLb };
    const nowMs = platform.clock.nowMs();
    await registerFile(volume, fileName, () => store.addReplicatedDiff(added, rows, nowMs, this.#nextLogUuid));
    if (rows.length === 0) volume.added(before, meta);
    await volume.removeDiffFiles(rows.filter((row) => row.fileName !== fileName));
    if (isNewLog) await volume.saveManifest();
    volume.clearTrouble();
    await this.#ended();
  }

  async abandon(_error: unknown): Promise<void> {
    await this.#file?.discard();
    this.#file = undefined;
    await this.#ended();
  }
}
