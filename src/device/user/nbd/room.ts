/** @module Back-pressure from volumes to the connections that write to them. */
import type { BlockVolume } from "../block.ts";

/** Lets any number of connections wait for room in their volumes, with one callback per volume at a time. */
export class RoomGates {
  private readonly waiting = new Map<BlockVolume, Set<() => void>>();

  /** Calls back once when the volume may have room again. Returns how to stop waiting. */
  wait(volume: BlockVolume, callback: () => void): () => void {
    const known = this.waiting.get(volume);
    const callbacks = known ?? new Set<() => void>();
    callbacks.add(callback);
    if (known === undefined) {
      this.waiting.set(volume, callbacks);
      volume.onRoom(() => this.open(volume));
    }
    return () => callbacks.delete(callback);
  }

  private open(volume: BlockVolume): void {
    const callbacks = this.waiting.get(volume);
    this.waiting.delete(volume);
    // Those that find no room after all wait again, behind the others.
    for (const callback of callbacks ?? []) callback();
  }
}
