/** @module `wdiff-send`: acts as a proxy for one wdiff. */
import { WalbError } from "../../../errors.ts";
import { compactTimeText, parseCompactTime } from "../../../snapshot/time.ts";
import { diffMeta, snapshot } from "../../../snapshot/types.ts";
import { decisionText } from "../../../wire/words.ts";
import { sendDiff } from "../../files/lib/diff-send.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-send",
  description: "wdiff-send: send a wdiff to an archive as a proxy does",
  options: {
    g0: { kind: "int", help: "gid of the snapshot it begins at", default: "0" },
    g1: { kind: "int", help: "gid of the snapshot it ends at", default: "1" },
    merge: { kind: "int", help: "1: mergeable, 0: not", default: "1" },
    time: { kind: "text", help: "timestamp, YYYYMMDDhhmmss; default: now" },
    uuid: { kind: "text", help: "uuid of the log; default: that of the wdiff" },
    msg: { kind: "text", help: "answer that is expected", default: "accept" },
    timeout: { kind: "int", help: "socket timeout in seconds", default: "10" },
    node: { kind: "text", help: "node id", default: "wdiff-send" },
  },
  params: [
    { name: "ADDR", help: "address of the archive" },
    { name: "PORT", help: "port of the archive" },
    { name: "VOL", help: "volume" },
    { name: "SIZE", help: "size of the volume, in bytes" },
    { name: "WDIFF", help: "wdiff path" },
  ],
  async run({ args, tool, io, logError }) {
    const [begin, end] = [args.bigint("g0"), args.bigint("g1")];
    const time = args.optionalText("time") ?? compactTimeText(Math.floor(io.nowMs() / 1000), "time");
    const uuid = args.optionalText("uuid")?.toLowerCase();
    if (uuid !== undefined && !/^[0-9a-f]{32}$/.test(uuid)) {
      throw new WalbError("usage", { what: `bad uuid ${JSON.stringify(uuid)}`, where: { field: "uuid" } });
    }
    const { answer } = await sendDiff(tool, args.param(4), {
      archive: { kind: "tcp", host: args.param(0), port: args.intParam(1) },
      volume: args.param(2),
      diff: diffMeta({
        from: snapshot(begin, begin, "g0"),
        to: snapshot(end, end, "g1"),
        isMergeable: args.int("merge") !== 0,
        isCompared: false,
        timestampS: parseCompactTime(time),
        dataSizeBytes: 0,
      }),
      sizeLb: Math.floor(args.intParam(3) / 512),
      clientId: args.text("node"),
      timeoutMs: args.int("timeout") * 1000,
      ...(uuid === undefined ? {} : { uuid }),
    });
    const [got, wanted] = [decisionText(answer), args.text("msg")];
    if (got === wanted) return 0;
    logError(`wdiff-send:the archive answered ${got}, not ${wanted}`);
    return 1;
  },
});
