/**
 * @module Tokens: what programs and people show over HTTP that cannot prove the key itself, such as Prometheus, curl and
 * browsers. They are derived from the cluster key: every daemon knows them, and they change when the key does.
 */
import { timingSafeEqual } from "node:crypto";
import type { ClusterKey, ClusterKeys } from "./key.ts";

/** What a token allows: everything, or looking at metrics and status. */
export type TokenRight = "full" | "monitor";

const tokenBytes = 24;
const names = { full: "walb", monitor: "walbmon" } as const;
const purposes = { full: "token", monitor: "monitor-token" } as const;

/** The token of a key. */
export function tokenOf(key: ClusterKey, right: TokenRight): string {
  const secret = key.derive(purposes[right], tokenBytes);
  return `${names[right]}-${Buffer.from(secret).toString("base64url")}`;
}

/** Knows the tokens of all keys. */
export class Tokens {
  readonly #known: readonly { readonly right: TokenRight; readonly bytes: Buffer }[];

  constructor(keys: ClusterKeys) {
    this.#known = keys.all.flatMap((key) =>
      (["full", "monitor"] as const).map((right) => ({ right, bytes: Buffer.from(tokenOf(key, right)) })),
    );
  }

  /** What an `Authorization` header allows: `Bearer TOKEN`, or `Basic` with any user and the token as password. */
  rightOf(header: string | null): TokenRight | undefined {
    const [, scheme = "", value = ""] = /^(bearer|basic) +(\S+)$/i.exec(header?.trim() ?? "") ?? [];
    const text = scheme.toLowerCase() === "basic" ? passwordOf(value) : value;
    const given = Buffer.from(text);
    let found: TokenRight | undefined;
    // All are compared, whichever it is.
    for (const { right, bytes } of this.#known) {
      if (given.length === bytes.length && timingSafeEqual(given, bytes)) found = right;
    }
    return found;
  }
}

function passwordOf(encoded: string): string {
  const text = Buffer.from(encoded, "base64").toString();
  return text.slice(text.indexOf(":") + 1);
}
