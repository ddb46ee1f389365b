/** @module The event queue of the world: a binary heap by (time, seeded tie-break, sequence). */

/** One event. Times are whole microseconds of virtual time. */
export interface SimEvent {
  readonly timeUs: number;
  readonly tie: number;
  readonly sequence: number;
  readonly label: string;
  /** Undefined once cancelled or run. */
  run: (() => void) | undefined;
}

/** Earliest first; all operations O(log n). Cancelled events stay in place until they come to the top. */
export class EventQueue {
  private readonly heap: SimEvent[] = [];

  push(event: SimEvent): void {
    let index = this.heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(event, this.heap[parent]!)) break;
      this.heap[index] = this.heap[parent]!;
      index = parent;
    }
    this.heap[index] = event;
  }

  /** Takes an event back; fine when it has run. */
  cancel(event: SimEvent): void {
    event.run = undefined;
  }

  /** The earliest event, left in the queue. */
  peek(): SimEvent | undefined {
    while (this.heap.length > 0 && this.heap[0]!.run === undefined) this.removeTop();
    return this.heap[0];
  }

  /** Takes the earliest event out and gives what it has to run. */
  pop(): { event: SimEvent; run: () => void } | undefined {
    const event = this.peek();
    if (event?.run === undefined) return undefined;
    const run = event.run;
    this.removeTop();
    event.run = undefined;
    return { event, run };
  }

  private removeTop(): void {
    const last = this.heap.pop();
    if (last === undefined || this.heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && isBefore(this.heap[child + 1]!, this.heap[child]!)) child++;
      if (!isBefore(this.heap[child]!, last)) break;
      this.heap[index] = this.heap[child]!;
      index = child;
    }
    this.heap[index] = last;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  if (a.timeUs !== b.timeUs) return a.timeUs < b.timeUs;
  return a.tie !== b.tie ? a.tie < b.tie : a.sequence < b.sequence;
}
