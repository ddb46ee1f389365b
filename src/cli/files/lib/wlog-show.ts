/** @module What wlog files hold: shown, counted, checked. */
import type { WalbError } from "../../../errors.ts";
import { IntervalIndex } from "../../../log/intervals.ts";
import { innerLsid, wholeLsid } from "../../../log/lsid.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import { lbBytes, u64Max } from "../../../units.ts";
import { countPack, emptyLogCounts, type LogCounts } from "./log-text.ts";
import type { Tool } from "./tool.ts";
import { badDataError, emptyLogError, missingEndError, type WalkedPack, type WalkInput, WlogWalker } from "./walk.ts";

/** What to hear while a wlog is walked. */
export interface WlogShowOptions {
  /** Only packs that begin in [fromLsid, toLsid). */
  readonly fromLsid?: bigint;
  readonly toLsid?: bigint;
  /** Check data too; bad data goes to `onBadData`, or is thrown without it. */
  readonly checkData?: boolean;
  /** Take an end without end block for the end. */
  readonly lenient?: boolean;
  /** Walk on behind an end block. Default true. */
  readonly concatenated?: boolean;
  readonly onHeader?: (header: WlogHeader) => void;
  readonly onPack?: (pack: WalkedPack) => void;
  readonly onBadData?: (pack: WalkedPack, error: WalbError) => void;
  /** Hears each wlog's counts, also those of one that turns out damaged. */
  readonly onEnd?: (counts: LogCounts) => void;
}

/**
 * Walks the wlogs of an input. @returns how many there were.
 * @throws WalbError `damaged` after everything before the damage was told; `bad-format` for an empty input.
 */
export async function showWlog(tool: Tool, input: WalkInput, options: WlogShowOptions): Promise<number> {
  const walker = new WlogWalker(tool.platform, input);
  let wlogs = 0;
  let isDone = false;
  try {
    for (;;) {
      const header = await walker.nextHeader();
      if (header === undefined) break;
      wlogs += 1;
      options.onHeader?.(header);
      const counts = emptyLogCounts(wholeLsid(header.beginLsid, header.lsidBase), header.endLsid);
      try {
        isDone = await walkPacks(tool, walker, header, counts, input, options);
      } finally {
        options.onEnd?.(counts);
      }
      if (isDone || options.concatenated === false) break;
    }
  } finally {
    walker.release();
  }
  if (wlogs === 0) {
    throw emptyLogError(input.name);
  }
  return wlogs;
}

/** @returns true when the asked range is over. */
async function walkPacks(
  tool: Tool,
  walker: WlogWalker,
  header: WlogHeader,
  counts: LogCounts,
  input: WalkInput,
  options: WlogShowOptions,
): Promise<boolean> {
  const { lenient } = options;
  const lsidBase = header.lsidBase ?? 0n;
  const fromLsid = innerLsid(options.fromLsid ?? 0n, lsidBase);
  const toLsid = innerLsid(options.toLsid ?? u64Max, lsidBase);
  const packs = walker.packs(options.checkData === true, tool.signal);
  for (;;) {
    const step = await packs.next();
    if (step.done === true) {
      const { endLsid, hasEndBlock } = step.value;
      if (!hasEndBlock && lenient !== true) throw missingEndError(input.name, endLsid, walker.offsetBytes);
      return false;
    }
    const pack = step.value;
    tool.progress(walker.offsetBytes, input.sizeBytes);
    if (pack.header.lsid >= toLsid) {
      await packs.return({ endLsid: wholeLsid(pack.header.lsid, lsidBase), hasEndBlock: true });
      return true;
    }
    if (pack.header.lsid < fromLsid) continue;
    countPack(counts, pack.header, header.pbsBytes, lsidBase);
    options.onPack?.(pack);
    for (const bad of pack.badData) {
      const error = badDataError(input.name, pack, bad);
      if (options.onBadData === undefined) throw error;
      options.onBadData(pack, error);
    }
  }
}

/** How often blocks are overwritten in logs. */
export class WriteAnalysis {
  readonly blockBytes: number;
  writtenBlocks = 0;
  readonly #changed = new IntervalIndex<true>();

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes;
  }

  /** Counts the writes and discards of a pack. */
  add(pack: WalkedPack): void {
    for (const { kind, offsetLb, sizeLb } of pack.header.records) {
      if (kind === "padding" || sizeLb === 0) continue;
      const start = Math.floor((offsetLb * lbBytes) / this.blockBytes);
      const end = Math.ceil(((offsetLb + sizeLb) * lbBytes) / this.blockBytes);
      this.writtenBlocks += end - start;
      this.#changed.set(start, end, true);
    }
  }

  /** Blocks written at least once. */
  get changedBlocks(): number {
    let blocks = 0;
    this.#changed.visit(0, Number.MAX_SAFE_INTEGER, (start, end) => {
      blocks += end - start;
    });
    return blocks;
  }

  /** Part of the writes that a later one of the same blocks replaced. */
  get overwrittenRate(): number {
    return this.writtenBlocks === 0 ? 0 : 1 - this.changedBlocks / this.writtenBlocks;
  }
}
