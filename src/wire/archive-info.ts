/**
 * @module archive-info: which archives a proxy sends a volume's diffs to.
 *
 * ```
 * C> SV [add | update | get | delete | list, volume], str archive (not for list), HostInfoForBkp (add, update)
 * S> "ok"   then for get HostInfoForBkp, for list SV; no Ack
 * ```
 */
import { confirmed, readParameters, reply, sendParameters } from "./commands.ts";
import { type ArchiveTarget, putArchiveTarget, takeArchiveTarget } from "./meta.ts";
import { badField } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { wordOk } from "./words.ts";

/** A request about a volume's archives. */
export type ArchiveInfoRequest =
  | {
      readonly kind: "add" | "update";
      readonly volume: string;
      readonly archive: string;
      readonly target: ArchiveTarget;
    }
  | { readonly kind: "get" | "delete"; readonly volume: string; readonly archive: string }
  | { readonly kind: "list"; readonly volume: string };

/** Puts all parts of a request: clients send them before they read. */
function putArchiveInfo(stream: WireStream, request: ArchiveInfoRequest): void {
  sendParameters(stream, [request.kind, request.volume]);
  stream.put((encoder) => {
    if (request.kind !== "list") encoder.string(request.archive);
    if (request.kind === "add" || request.kind === "update") putArchiveTarget(encoder, request.target);
  });
}

/** `add`, `update`, `delete`. */
export async function runArchiveChange(
  stream: WireStream,
  request: Exclude<ArchiveInfoRequest, { kind: "get" | "list" }> | { kind: "delete"; volume: string; archive: string },
): Promise<void> {
  putArchiveInfo(stream, request);
  await confirmed(stream, `archive-info ${request.kind}`, wordOk);
}

/** `get`. */
export async function runArchiveGet(stream: WireStream, volume: string, archive: string): Promise<ArchiveTarget> {
  putArchiveInfo(stream, { kind: "get", volume, archive });
  await confirmed(stream, "archive-info get", wordOk);
  return stream.read("the archive", takeArchiveTarget);
}

/** `list`. */
export async function runArchiveList(stream: WireStream, volume: string): Promise<string[]> {
  putArchiveInfo(stream, { kind: "list", volume });
  await confirmed(stream, "archive-info list", wordOk);
  return stream.readStrings("the archives");
}

/** What the proxy answers. */
export type ArchiveInfoResult =
  | { readonly kind: "done" }
  | { readonly kind: "target"; readonly target: ArchiveTarget }
  | { readonly kind: "names"; readonly names: readonly string[] };

/** Serves the proxy's end. `answer` throws to refuse. */
export async function serveArchiveInfo(
  stream: WireStream,
  answer: (request: ArchiveInfoRequest) => Promise<ArchiveInfoResult>,
): Promise<void> {
  const result = await answer(await readArchiveInfo(stream));
  await reply(stream, wordOk, (encoder) => {
    if (result.kind === "target") putArchiveTarget(encoder, result.target);
    else if (result.kind === "names") encoder.strings(result.names);
  });
}

async function readArchiveInfo(stream: WireStream): Promise<ArchiveInfoRequest> {
  const [kind = "", volume = ""] = await readParameters(stream, { exactCount: 2 });
  switch (kind) {
    case "list":
      return { kind, volume };
    case "get":
    case "delete":
      return { kind, volume, archive: await readArchiveName(stream) };
    case "add":
    case "update": {
      const archive = await readArchiveName(stream);
      return { kind, volume, archive, target: await stream.read("the archive", takeArchiveTarget) };
    }
    default:
      throw badField("archive-info", `cannot ${JSON.stringify(kind)}: use add, update, get, delete or list`);
  }
}

async function readArchiveName(stream: WireStream): Promise<string> {
  const name = await stream.readString("the archive's name", 1024);
  if (name === "") throw badField("archive name", "is empty");
  return name;
}
