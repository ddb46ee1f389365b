/** @module What a proxy answers over the wire protocol: log transfers, and the commands of other daemons. */
import type { Control } from "../control/control.ts";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import { replyVersion } from "../wire/commands.ts";
import { readGet, replyGet } from "../wire/get.ts";
import type { WireHandler } from "../wire/server.ts";
import type { WireStream } from "../wire/stream.ts";
import { serveWlogTransfer, type WlogRequest } from "../wire/wlog-transfer.ts";
import { accept, refuse } from "../wire/words.ts";
import { Reception } from "./receive.ts";
import type { ProxySettings } from "./settings.ts";
import type { ProxyVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface WireParts {
  readonly control: Control;
  readonly settings: ProxySettings;
  readonly volumes: ProxyVolumes;
  /** Batches of logs on their way in. */
  readonly receiving: MemoryPool;
  /** Conversion and writing of what was received. */
  readonly io: DiffIo;
}

/** Handlers by protocol or command name. */
export function proxyWireHandlers(parts: WireParts): ReadonlyMap<string, WireHandler> {
  let receptionsRunning = 0;
  return new Map<string, WireHandler>([
    [
      "wlog-transfer",
      async (stream) => {
        receptionsRunning += 1;
        try {
          await receiveLog(parts, stream, receptionsRunning);
        } finally {
          receptionsRunning -= 1;
        }
      },
    ],
    [
      "get",
      async (stream) => {
        const { name } = await readGet(stream, "proxy");
        if (name === "host-type") return replyGet(stream, name, "proxy");
        throw new WalbError("unsupported", { what: `this proxy does not answer get ${name}` });
      },
    ],
    ["version", (stream) => replyVersion(stream, `version:${parts.control.info().version}\tlog_version:2`)],
  ]);
}

async function receiveLog(parts: WireParts, stream: WireStream, running: number): Promise<void> {
  const { settings, volumes, io } = parts;
  let leave: (() => void) | undefined;
  let request: WlogRequest | undefined;
  let reception: Reception | undefined;
  try {
    await serveWlogTransfer(
      stream,
      { pool: parts.receiving, compute: io.compute },
      {
        async decide(asked) {
          try {
            if (running > settings.maxForegroundTasks) {
              throw new WalbError("busy", {
                what: `${settings.maxForegroundTasks} logs are being received, which is the limit`,
                where: { host: settings.nodeId, volume: asked.volume },
              });
            }
            const { machine } = volumes.get(asked.volume);
            machine.requireNotStopping("receive a log");
            const transition = machine.begin(["Started"], "WlogRecv", "receive a log");
            leave = () => transition.commit("Started");
            request = asked;
            // Made here, so that a lack of space is told as the answer.
            reception = await Reception.begin(volumes.get(asked.volume), asked, io);
            return accept;
          } catch (error) {
            return refuse(error);
          }
        },
        async begin() {
          return reception!;
        },
        async commit(received) {
          await reception!.commit(received);
          leave?.();
          volumes.kick(request!.volume);
        },
      },
    );
  } finally {
    leave?.();
  }
}
