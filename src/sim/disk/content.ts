/**
 * @module Contents of one file or block device: what readers see, what would survive a power loss, and the changes
 * between the two.
 *
 * A change is volatile until a sync that began after it completed. At a power loss each sector of each volatile change
 * survives or not by chance, in any order, so writes of more than a sector tear.
 */
import type { SimRandom } from "../api.ts";
import { Pages, pageBytes } from "./pages.ts";

/** Disks write whole sectors of this size or nothing. */
const sectorBytes = 512;
/** Volatile bytes a file keeps; beyond it the oldest changes become durable, as page caches do. */
const volatileBytesMax = 32 * 1024 * 1024;
const volatileChangesMax = 16_384;

/** A change that is not durable yet. */
type Change =
  | { readonly kind: "write"; readonly offsetBytes: number; readonly bytes: Uint8Array }
  | { readonly kind: "zero"; readonly offsetBytes: number; readonly sizeBytes: number }
  | { readonly kind: "truncate"; readonly sizeBytes: number };

/** What part of the volatile changes survives. */
export type Survival = "random" | "none" | "all";

interface State {
  pages: Pages;
  sizeBytes: number;
}

/** Contents with their durable shadow. */
export class Content {
  private current: State;
  private durable: State;
  private volatile: Change[] = [];
  private volatileBytes = 0;
  /** Number of changes so far: the mark a sync takes when it begins. */
  private changes = 0;
  /** Pages in which current and durable may differ. */
  private dirty = new Set<number>();
  /** After a failed sync the page cache holds data that no later sync will write: then pages may not be adopted whole. */
  private hasLostChanges = false;
  /** Cloned and not synced since: the pages are in no change of the list. */
  private isFreshClone = false;
  /** Block devices have a size that writes and truncates do not change. */
  readonly isFixedSize: boolean;
  /** Pages taken over by a reflink and not written since: not charged to this file. */
  private readonly borrowed = new Set<number>();

  constructor(sizeBytes: number, isFixedSize: boolean) {
    this.isFixedSize = isFixedSize;
    this.current = { pages: new Pages(), sizeBytes };
    this.durable = { pages: new Pages(), sizeBytes };
  }

  get sizeBytes(): number {
    return this.current.sizeBytes;
  }

  get allocatedBytes(): number {
    return this.current.pages.count * pageBytes;
  }

  /** What the file costs on its file system: pages shared with the origin of a clone are free. */
  get chargedBytes(): number {
    return (this.current.pages.count - this.borrowed.size) * pageBytes;
  }

  /** The mark that {@link sync} needs: everything completed until now. */
  get mark(): number {
    return this.changes;
  }

  read(offsetBytes: number, target: Uint8Array): void {
    this.current.pages.read(offsetBytes, target);
  }

  write(offsetBytes: number, bytes: Uint8Array): void {
    this.change({ kind: "write", offsetBytes, bytes: bytes.slice() }, bytes.length);
  }

  zero(offsetBytes: number, sizeBytes: number): void {
    this.change({ kind: "zero", offsetBytes, sizeBytes }, 64);
  }

  truncate(sizeBytes: number): void {
    this.change({ kind: "truncate", sizeBytes }, 64);
  }

  nextData(offsetBytes: number): { startBytes: number; endBytes: number } | undefined {
    const run = this.current.pages.nextRun(offsetBytes);
    if (run === undefined || run.startBytes >= this.sizeBytes) return undefined;
    return { startBytes: run.startBytes, endBytes: Math.min(run.endBytes, this.sizeBytes) };
  }

  /** What a write to a range would cost in addition. */
  newBytes(offsetBytes: number, sizeBytes: number): number {
    if (sizeBytes === 0) return 0;
    const end = offsetBytes + sizeBytes;
    const touched = Math.floor((end - 1) / pageBytes) - Math.floor(offsetBytes / pageBytes) + 1;
    const existing = this.current.pages.indexesIn(offsetBytes, end);
    const free = existing.reduce((sum, index) => sum + (this.borrowed.has(index) ? 0 : 1), 0);
    return (touched - free) * pageBytes;
  }

  /** Makes all changes before the mark durable. */
  sync(mark: number): void {
    const kept = this.changes - mark;
    if ((kept === 0 || this.isFreshClone) && !this.hasLostChanges) {
      this.isFreshClone = false;
      this.durable.pages.adopt(this.current.pages, this.dirty);
      this.durable.sizeBytes = this.current.sizeBytes;
      this.dirty.clear();
      this.volatile = [];
      this.volatileBytes = 0;
      return;
    }
    this.settle(Math.max(0, this.volatile.length - kept));
  }

  /** A sync that failed: readers still see the changes, but each is durable or lost by chance, and none is tried again. */
  failSync(mark: number, random: SimRandom): void {
    const failed = this.volatile.splice(0, Math.max(0, this.volatile.length - (this.changes - mark)));
    for (const change of failed) {
      this.volatileBytes -= costBytes(change);
      if (random.chance(0.5)) apply(this.durable, change, this.isFixedSize);
    }
    if (failed.length > 0) this.hasLostChanges = true;
  }

  /** Becomes a copy of another file's current contents, volatile until the next sync. */
  cloneFrom(source: Content, isReflink: boolean): void {
    this.current = { pages: source.current.pages.share(), sizeBytes: source.sizeBytes };
    this.isFreshClone = true;
    for (const index of this.current.pages.indexesIn(0, this.sizeBytes)) {
      this.dirty.add(index);
      if (isReflink) this.borrowed.add(index);
    }
  }

  /** Changes both what is seen and what is durable, as another program's synced write. */
  poke(offsetBytes: number, bytes: Uint8Array): void {
    const change: Change = { kind: "write", offsetBytes, bytes };
    apply(this.current, change, this.isFixedSize);
    apply(this.durable, change, this.isFixedSize);
  }

  /** Sets the size of a block device, durably. */
  resizeDevice(sizeBytes: number): void {
    for (const state of [this.current, this.durable]) apply(state, { kind: "truncate", sizeBytes }, false);
    this.volatile = this.volatile.filter((change) => change.kind !== "truncate" && endOf(change) <= sizeBytes);
    this.volatileBytes = this.volatile.reduce((sum, change) => sum + costBytes(change), 0);
  }

  /** Power loss. Afterwards everything that is left is durable. */
  crash(random: SimRandom, survival: Survival): void {
    if (survival === "all") {
      this.durable = { pages: this.current.pages.share(), sizeBytes: this.sizeBytes };
    } else if (survival === "random") {
      const probability = random.pick([0, 0.1, 0.5, 0.9, 1]);
      for (const epoch of this.epochs(random)) {
        for (const change of shuffled(epoch, random))
          applyPart(this.durable, change, this.isFixedSize, probability, random);
      }
    }
    this.current = { pages: this.durable.pages.share(), sizeBytes: this.durable.sizeBytes };
    const present = new Set(this.current.pages.indexesIn(0, this.sizeBytes));
    for (const index of this.borrowed) if (!present.has(index)) this.borrowed.delete(index);
    this.volatile = [];
    this.volatileBytes = 0;
    this.dirty.clear();
    this.hasLostChanges = false;
    this.isFreshClone = false;
  }

  /** Sizes are journalled by file systems: a chance prefix of the truncates survives, each a barrier for writes. */
  private epochs(random: SimRandom): Change[][] {
    const truncates = this.volatile.filter((change) => change.kind === "truncate").length;
    let surviving = random.between(0, truncates);
    const epochs: Change[][] = [[]];
    for (const change of this.volatile) {
      if (change.kind !== "truncate") epochs.at(-1)?.push(change);
      else if (surviving-- > 0) epochs.push([change], []);
      else break;
    }
    return epochs;
  }

  private change(change: Change, cost: number): void {
    this.unborrow(change);
    apply(this.current, change, this.isFixedSize);
    this.markDirty(change);
    this.changes++;
    this.volatile.push(change);
    this.volatileBytes += cost;
    if (this.volatileBytes <= volatileBytesMax && this.volatile.length <= volatileChangesMax) return;
    this.settle(Math.ceil(this.volatile.length / 2));
  }

  /** Makes the oldest changes durable one by one. */
  private settle(count: number): void {
    for (const change of this.volatile.splice(0, count)) {
      this.volatileBytes -= costBytes(change);
      apply(this.durable, change, this.isFixedSize);
    }
  }

  private unborrow(change: Change): void {
    if (this.borrowed.size === 0) return;
    const start = change.kind === "truncate" ? change.sizeBytes : change.offsetBytes;
    const end = change.kind === "truncate" ? Number.MAX_SAFE_INTEGER : endOf(change);
    for (const index of this.current.pages.indexesIn(start, end)) this.borrowed.delete(index);
  }

  private markDirty(change: Change): void {
    if (change.kind === "write") {
      const last = Math.floor((change.offsetBytes + change.bytes.length - 1) / pageBytes);
      for (let index = Math.floor(change.offsetBytes / pageBytes); index <= last; index++) this.dirty.add(index);
      return;
    }
    // Of a zeroed or cut-off range, only pages that exist in the durable state can differ.
    const start = change.kind === "zero" ? change.offsetBytes : change.sizeBytes;
    const end = change.kind === "zero" ? endOf(change) : Number.MAX_SAFE_INTEGER;
    for (const index of this.durable.pages.indexesIn(start, end)) this.dirty.add(index);
  }
}

function costBytes(change: Change): number {
  return change.kind === "write" ? change.bytes.length : 64;
}

function endOf(change: Exclude<Change, { kind: "truncate" }>): number {
  return change.offsetBytes + (change.kind === "write" ? change.bytes.length : change.sizeBytes);
}

function apply(state: State, change: Change, isFixedSize: boolean): void {
  if (change.kind === "truncate") {
    if (change.sizeBytes < state.sizeBytes)
      state.pages.zero(change.sizeBytes, Number.MAX_SAFE_INTEGER - change.sizeBytes);
    state.sizeBytes = change.sizeBytes;
    return;
  }
  if (change.kind === "write") state.pages.write(change.offsetBytes, change.bytes);
  else state.pages.zero(change.offsetBytes, change.sizeBytes);
  if (change.kind === "write" && !isFixedSize) state.sizeBytes = Math.max(state.sizeBytes, endOf(change));
}

/** Applies each sector of a change with the given probability; of a large zeroing, up to 16 pieces. */
function applyPart(state: State, change: Change, isFixedSize: boolean, probability: number, random: SimRandom): void {
  if (change.kind === "truncate") {
    apply(state, change, isFixedSize);
    return;
  }
  const end = endOf(change);
  const sectors = Math.ceil(end / sectorBytes) - Math.floor(change.offsetBytes / sectorBytes);
  const step = change.kind === "zero" ? Math.max(1, Math.ceil(sectors / 16)) * sectorBytes : sectorBytes;
  for (let at = change.offsetBytes; at < end; ) {
    const next = Math.min(end, at - (at % sectorBytes) + step);
    if (random.chance(probability)) {
      const part: Change =
        change.kind === "write"
          ? {
              kind: "write",
              offsetBytes: at,
              bytes: change.bytes.subarray(at - change.offsetBytes, next - change.offsetBytes),
            }
          : { kind: "zero", offsetBytes: at, sizeBytes: next - at };
      apply(state, part, isFixedSize);
    }
    at = next;
  }
}

function shuffled<T>(values: readonly T[], random: SimRandom): T[] {
  const mixed = [...values];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = random.between(0, i);
    [mixed[i], mixed[j]] = [mixed[j]!, mixed[i]!];
  }
  return mixed;
}
