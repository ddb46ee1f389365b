/** @module Rounds of an apply that the disk has space for. */
import { planMerge } from "../diff/merge.ts";
import { type DiffIo, RecordKind } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import { type ByteRange, baseImage } from "../image/image.ts";
import { diffText } from "../snapshot/text.ts";
import { lbBytes, mib } from "../units.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { openRound, type Round } from "./diffs.ts";
import type { ArchiveVolume } from "./volume.ts";

/** What is kept free for databases and manifests while diffs are applied. */
const spareBytes = 2 * mib;

/**
 * Opens the next round that the image has space for: on a full disk one diff after the other may still fit, since each
 * gives its space back. @throws WalbError `no-space` before anything is written.
 */
export async function openFittingRound(
  volume: ArchiveVolume,
  io: DiffIo,
  choose: (countMax: number) => readonly StoredDiff[],
  signal: AbortSignal,
): Promise<Round | undefined> {
  let limit = Number.POSITIVE_INFINITY;
  for (;;) {
    const round = await openRound(volume, io, (countMax) => choose(Math.min(limit, countMax)), signal);
    if (round === undefined) return undefined;
    let isFitting = false;
    try {
      const missing = await missingSpace(volume, io, round);
      if (missing === undefined) {
        isFitting = true;
        return round;
      }
      const fewer = Math.max(1, Math.floor(round.metas.length / 2));
      if (choose(fewer).length >= round.metas.length) throw missing;
      limit = fewer;
    } finally {
      if (!isFitting) await round.close();
    }
  }
}

/** Why a round does not fit. */
async function missingSpace(volume: ArchiveVolume, io: DiffIo, round: Round): Promise<WalbError | undefined> {
  const freeBytes = Math.max(0, (await io.disk.freeSpace(volume.directory)).freeBytes - spareBytes);
  const { pieces, records, stats } = planMerge(round.open.records);
  if (stats.normalLb * lbBytes <= freeBytes) return undefined;
  function* written(): Generator<ByteRange> {
    for (let i = 0; i < pieces.count; i++) {
      if (records.kind[pieces.record[i]!] !== RecordKind.normal) continue;
      const startBytes = pieces.addressLb[i]! * lbBytes;
      yield { startBytes, endBytes: startBytes + pieces.blocksLb[i]! * lbBytes };
    }
  }
  const neededBytes = await volume.images.missingBytes(baseImage(volume.name), written());
  if (neededBytes <= freeBytes) return undefined;
  const [first] = round.metas;
  return new WalbError("no-space", {
    what: `applying the diff ${first === undefined ? "" : diffText(first)} takes ${Math.ceil(neededBytes / mib)} MiB more, but only ${Math.floor(freeBytes / mib)} MiB are free`,
    where: { volume: volume.name, file: volume.directory },
    hint: "make room on the archive's file system first: delete restored images or volumes that are not needed, or grow it",
  });
}
