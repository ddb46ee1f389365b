/**
 * @module Whether two archives with the same line of backups are still on one way: after a hash backup at each of them
 * both have the same gids for different contents, and a diff of one would be laid over an image of the other.
 */
import { WalbError } from "../../errors.ts";
import { parseHostPort } from "../../wire/grammar.ts";
import { type ConnectOptions, connectWire } from "../../wire/handshake.ts";
import { logsProtocol, runLogs, serveLogs, type VolumeLogs } from "../../wire/logs.ts";
import type { WireStream } from "../../wire/stream.ts";
import { refuse } from "../../wire/words.ts";
import { type ArchiveVolume, activeStates } from "../volume.ts";
import type { ArchiveVolumes } from "../volumes.ts";

/** Logs of a volume with backups. */
function logsOf({ store }: ArchiveVolume): VolumeLogs {
  const followed = store.logUuid!;
  const before = new Set([...store.knownLogs.all, ...store.retiredLogs.all]);
  before.delete(followed);
  return { followed, before: [...before] };
}

/** True when neither follows a log that the other one has heard of: each has gone on from another log. Pure. */
function haveParted(a: VolumeLogs, b: VolumeLogs): boolean {
  if (a.followed === b.followed) return false;
  return !a.before.includes(b.followed) && !b.before.includes(a.followed);
}

/** Serves the receiving end. */
export function serveReplicaLogs(volumes: ArchiveVolumes, stream: WireStream): Promise<void> {
  return serveLogs(stream, async ({ volume: name, archiveUuid, logs }) => {
    try {
      const volume = volumes.get(name);
      const { machine, store, settings } = volume;
      machine.require([...activeStates, "Resync"], "tell the logs");
      if (store.archiveUuid !== archiveUuid) {
        throw new WalbError("different-uuid", { what: `archive ${settings.nodeId} has other backups of ${name}` });
      }
      const own = logsOf(volume);
      // Logs of before that only the sender has heard of: a third archive may still be at one of them.
      if (!haveParted(own, logs)) store.knownLogs.learn(logs.before);
      return own;
    } catch (error) {
      return refuse(error);
    }
  });
}

/**
 * Refuses to replicate to an archive that has gone another way. What the other one cannot or will not tell is left to the
 * replication itself.
 * @throws WalbError `different-uuid`.
 */
export async function requireOneWay(
  volume: ArchiveVolume,
  to: string,
  options: Omit<ConnectOptions, "protocol">,
  signal: AbortSignal,
): Promise<void> {
  const { store, platform, name, settings } = volume;
  const { archiveUuid } = store;
  if (store.base === undefined || archiveUuid === undefined) return;
  let stream: WireStream;
  try {
    const address = { kind: "tcp", ...parseHostPort(to) } as const;
    ({ stream } = await connectWire(platform.net, address, { ...options, protocol: logsProtocol }));
  } catch (error) {
    if (error instanceof WalbError && error.code === "unsupported") return;
    throw error;
  }
  const abort = (): void => stream.close();
  signal.addEventListener("abort", abort);
  try {
    const own = logsOf(volume);
    const { logs: other } = await runLogs(stream, { volume: name, archiveUuid, logs: own });
    if (other === undefined || !haveParted(own, other)) return;
    throw new WalbError("different-uuid", {
      what:
        `the archives have gone different ways: ${settings.nodeId} has backups of ${name} from log ${own.followed}, ` +
        `${stream.peerName} from log ${other.followed}, and neither has those of the other: nothing was changed`,
      where: { volume: name, peer: to },
      hint:
        `decide which of them is right: walb snapshots ${name} --server SERVER; then give up the points of the other one: ` +
        `walb replicate ${name} --server RIGHT --to OTHER --resync`,
    });
  } finally {
    signal.removeEventListener("abort", abort);
    stream.close();
  }
}
