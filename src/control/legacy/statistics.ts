/**
 * @module What `get handler-stat` tells: how often each client asked for what, and how long it took. Reading starts anew.
 *
 * Names come from peers: so many are counted, the rest is counted together.
 */
import type { ConversationReport } from "../../wire/server.ts";

const namesMax = 1000;
const otherName = "other";

/** Counts conversations. */
export class HandlerStatistics {
  #protocols = new Map<string, number>();
  #latencies = new Map<string, { seconds: number; count: number }>();
  #targets = new Map<string, number>();

  /** A conversation has ended. Those of unknown protocols are not counted. */
  ended({ caller, durationMs, error }: ConversationReport): void {
    if (caller === undefined || error?.code === "unsupported") return;
    count(this.#protocols, `${caller.protocol}\t${caller.clientId}`);
    const before = this.#latencies.get(caller.protocol) ?? { seconds: 0, count: 0 };
    this.#latencies.set(caller.protocol, { seconds: before.seconds + durationMs / 1000, count: before.count + 1 });
  }

  /** Somebody asks for a target. */
  asked(target: string, clientId: string): void {
    count(this.#targets, `${target}\t${clientId}`);
  }

  /** The lines since they were read last. */
  take(): string[] {
    const lines = [
      ...[...this.#protocols].map(([name, times]) => `PROTOCOL_COUNT\t${name}\t${times}`),
      ...[...this.#latencies].map(
        ([name, { seconds, count }]) => `PROTOCOL_LATENCY\t${name}\t${(seconds / count).toFixed(6)}`,
      ),
      ...[...this.#targets].map(([name, times]) => `GET_COUNT\t${name}\t${times}`),
    ];
    this.#protocols = new Map();
    this.#latencies = new Map();
    this.#targets = new Map();
    return lines;
  }
}

function count(counts: Map<string, number>, name: string): void {
  const key =
    counts.has(name) || counts.size < namesMax ? name.replaceAll(/[\r\n]/g, " ") : `${otherName}\t${otherName}`;
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
