/** @module What may be on the stores after a power failure: what was synced, and any part of the rest by sectors. */
import type { TestRandom } from "../../../log/doubles.ts";
import { copyOf, type Life, type Stores } from "./life.ts";

export const sectorBytes = 512;

interface Sector {
  readonly path: string;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

interface StoreWrite {
  readonly id: number;
  readonly path: string;
  readonly sectors: readonly Sector[];
  /** The store has this size from then on; undefined for writes. */
  readonly sizeBytes?: number;
  /** Number of the event of its end; a sync that began later makes it durable. */
  writtenAt: number;
}

/** The stores as one crash leaves them. */
export interface CrashState {
  /** Event right before which the power failed. */
  readonly at: number;
  /** How the state was made, for messages. */
  readonly what: string;
  /** Only until the next state is asked for, and not to be changed. */
  readonly stores: Stores;
  /** Writes that were flushed at least, and submitted at most. */
  readonly durableCount: number;
  readonly submittedCount: number;
  /** Size of the volume: what was answered at least, and asked for at most. */
  readonly grownLb: number;
  readonly growingLb: number;
}

/**
 * Around each sync of a life, and after each promise of durability: every prefix of the unsynced sectors in the order of
 * their writes, then `samples` times any subset of the writes, and of their sectors.
 */
export function* crashStates(life: Life, random: TestRandom, samples: number): Generator<CrashState> {
  const base = copyOf(life.stores);
  let unsynced: StoreWrite[] = [];
  const syncBegan = new Map<number, number>();
  let durableCount = 0;
  let submittedCount = 0;
  let grownLb = life.startLb;
  let growingLb = life.startLb;
  for (const [at, event] of life.events.entries()) {
    switch (event.kind) {
      case "write":
        unsynced.push({ ...event, sectors: sectorsOf(event), writtenAt: Number.POSITIVE_INFINITY });
        continue;
      case "written":
        unsynced.find(({ id }) => id === event.id)!.writtenAt = at;
        continue;
      case "resized":
        unsynced.push({ ...event, sectors: [], writtenAt: at });
        continue;
      case "sync":
        syncBegan.set(event.id, at);
        yield* statesOf(at);
        continue;
      case "synced": {
        const beganAt = syncBegan.get(event.id)!;
        const isDurable = ({ path, writtenAt }: StoreWrite): boolean => path === event.path && writtenAt < beganAt;
        for (const write of unsynced.filter(isDurable)) {
          resize(base, write);
          for (const sector of write.sectors) put(base, sector);
        }
        unsynced = unsynced.filter((write) => !isDurable(write));
        yield* statesOf(at + 1);
        continue;
      }
      case "note":
        if (event.note === "submitted") {
          submittedCount = event.value;
        } else if (event.note === "growing" || event.note === "grown") {
          growingLb = Math.max(growingLb, event.value);
          if (event.note === "grown") grownLb = Math.max(grownLb, event.value);
          yield* statesOf(at + 1);
        } else if (event.value > durableCount) {
          durableCount = event.value;
          yield* statesOf(at + 1);
        }
    }
  }
  yield* statesOf(life.events.length);

  function* statesOf(at: number): Generator<CrashState> {
    const counts = { at, durableCount, submittedCount, grownLb, growingLb };
    const stores = copyOf(base);
    yield { ...counts, what: "nothing unsynced kept", stores };
    let kept = 0;
    for (const write of unsynced) {
      if (resize(stores, write)) yield { ...counts, what: `${kept} unsynced sectors and a size kept`, stores };
      for (const sector of write.sectors) {
        put(stores, sector);
        kept += 1;
        yield { ...counts, what: `the first ${kept} unsynced sectors kept`, stores };
      }
    }
    for (let sample = 0; sample < samples && kept > 1; sample += 1) {
      for (const [path, bytes] of base) {
        if (stores.get(path)!.length === bytes.length) stores.get(path)!.set(bytes);
        else stores.set(path, bytes.slice());
      }
      for (const write of unsynced) {
        const { sectors } = write;
        const fate = sample % 2 === 0 ? 0.9 : random.fraction();
        if (fate < 0.3) continue;
        resize(stores, write);
        for (const sector of sectors) if (fate <= 0.7 || random.chance(0.5)) put(stores, sector);
      }
      yield { ...counts, what: sample % 2 === 0 ? "any sectors kept" : "some writes lost, some torn", stores };
    }
  }
}

function sectorsOf({ path, offsetBytes, bytes }: Sector): Sector[] {
  const sectors: Sector[] = [];
  for (let at = 0; at < bytes.length; at += sectorBytes) {
    sectors.push({ path, offsetBytes: offsetBytes + at, bytes: bytes.subarray(at, at + sectorBytes) });
  }
  return sectors;
}

/** Makes a store as large as the event says. False when it says nothing. */
function resize(stores: Stores, { path, sizeBytes }: StoreWrite): boolean {
  if (sizeBytes === undefined) return false;
  const bytes = new Uint8Array(sizeBytes);
  bytes.set(stores.get(path)!.subarray(0, sizeBytes));
  stores.set(path, bytes);
  return true;
}

function put(stores: Stores, { path, offsetBytes, bytes }: Sector): void {
  stores.get(path)!.set(bytes, offsetBytes);
}
