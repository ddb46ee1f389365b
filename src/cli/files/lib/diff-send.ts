/** @module One wdiff delivered to an archive, as a proxy delivers it. */
import { planMerge } from "../../../diff/merge.ts";
import { mergedPacks } from "../../../diff/output.ts";
import { WalbError } from "../../../errors.ts";
import { hexOf } from "../../../log/superblock.ts";
import type { Address } from "../../../platform/net.ts";
import type { DiffMeta } from "../../../snapshot/types.ts";
import { connectWire } from "../../../wire/handshake.ts";
import { runWdiffTransfer } from "../../../wire/wdiff-transfer.ts";
import { type Answer, ProtocolName } from "../../../wire/words.ts";
import { withDiffs } from "./diff-ops.ts";
import { carvedIo, type Tool } from "./tool.ts";

/** What to send, and where to. */
export interface SendOptions {
  readonly archive: Address;
  readonly volume: string;
  readonly diff: DiffMeta;
  /** Size of the volume; default the end of the diff's last record. */
  readonly sizeLb?: number;
  /** 32 hex digits; default that of the file. */
  readonly uuid?: string;
  /** Who sends, for the archive's log. */
  readonly clientId: string;
  readonly timeoutMs?: number;
}

/** What was asked of the archive, and what it said. */
export interface Sent {
  readonly answer: Answer;
  readonly sizeLb: number;
  readonly uuid: string;
  readonly records: number;
}

const batchesInFlightMax = 2;

/**
 * Sends a diff from a file or pipe. When it was accepted the archive has it durable.
 * @throws WalbError `unreachable`, `timed-out`, `damaged` when the file is; `out-of-range` for a size below the diff's end.
 */
export async function sendDiff(tool: Tool, path: string, options: SendOptions): Promise<Sent> {
  return withDiffs(tool, [path], false, async (set) => {
    const { platform, signal } = tool;
    const plan = planMerge(set.records);
    const sizeLb = options.sizeLb ?? Math.max(1, plan.endLb);
    if (plan.endLb > sizeLb) {
      throw new WalbError("out-of-range", {
        what: `the diff reaches block ${plan.endLb}, beyond the ${sizeLb} blocks of the volume`,
        where: { file: path, field: "io_address" },
        hint: "give the size of the volume",
      });
    }
    const uuid = options.uuid ?? hexOf(set.uuid);
    const { stream } = await connectWire(platform.net, options.archive, {
      clock: platform.clock,
      clientId: options.clientId,
      protocol: ProtocolName.wdiffTransfer,
      ...(options.timeoutMs === undefined ? {} : { deadlineMs: options.timeoutMs }),
    });
    const abort = (): void => stream.close(new WalbError("cancelled", { what: "sending the diff was cancelled" }));
    signal.addEventListener("abort", abort);
    try {
      const { volume, diff } = options;
      const request = { volume, hostType: "proxy", uuid, maxIoLb: 0, sizeLb, diff };
      const how = { signal, inFlightMax: batchesInFlightMax };
      const packs = () => mergedPacks(carvedIo(platform), set, plan, how);
      return { answer: await runWdiffTransfer(stream, request, packs), sizeLb, uuid, records: plan.pieces.count };
    } finally {
      signal.removeEventListener("abort", abort);
      stream.close();
    }
  });
}
