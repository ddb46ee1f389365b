/** @module What a peer is told that comes without TLS to a daemon with a cluster key, in the language it speaks. */
import { WalbError } from "../errors.ts";
import { Encoder } from "../wire/serializer.ts";
import { errorText } from "../wire/words.ts";

/** An HTTP answer, or the answer of the wire protocol's handshake. */
export function plainRefusal(kind: "http" | "wire", nodeId: string, keys: string): Uint8Array {
  const error = new WalbError("wrong-key", {
    what: `${nodeId} takes connections that are protected by ${keys} only`,
    hint:
      kind === "http"
        ? 'commands: add --cluster-key FILE, or cluster-key = "FILE" to walb.toml; others: use https and a token, see walb key token --help'
        : "start the other side with --cluster-key and a copy of the same key file",
  });
  if (kind === "wire") return new Encoder().string(nodeId).string(errorText(error)).bytes();
  const body = `${JSON.stringify({ error })}\n`;
  const head = [
    "HTTP/1.1 400 Bad Request",
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
}
