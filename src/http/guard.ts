/**
 * @module Which HTTP requests are taken: not those that a page in somebody's browser makes.
 *
 * A daemon on loopback trusts its host. A web page can reach it through the user's browser: by a name that is rebound to
 * 127.0.0.1 (told by the Host header), or across origins (told by the Origin header; writes also need a JSON content type,
 * which a page cannot send across origins without asking first, and we never say yes).
 */
import { WalbError } from "../errors.ts";
import type { Tokens } from "../secure/token.ts";

/** @throws WalbError `bad-parameter` for a request that is not taken. */
export function checkRequest(request: Request, security: "loopback" | "cluster-key" | "insecure"): void {
  const host = request.headers.get("host") ?? "";
  if (security === "loopback" && !isLoopbackName(hostName(host))) {
    throw new WalbError("bad-parameter", {
      what: `the request is for the host ${JSON.stringify(host)}, but this daemon serves its own host only`,
      where: { field: "host" },
      hint: "use 127.0.0.1 or localhost in the address, or run the daemon with --cluster-key",
    });
  }
  const origin = request.headers.get("origin");
  if (origin !== null && originHost(origin) !== host) {
    throw new WalbError("bad-parameter", {
      what: `a page of ${JSON.stringify(origin)} may not use this daemon`,
      where: { field: "origin" },
    });
  }
}

/** @throws WalbError `no-token` for a request without a token, or with one that does not allow it. */
export function checkToken(request: Request, tokens: Tokens): void {
  const right = tokens.rightOf(request.headers.get("authorization"));
  if (right === "full" || (right === "monitor" && request.method === "GET")) return;
  throw new WalbError("no-token", {
    what:
      right === "monitor"
        ? "the monitor's token allows to look only"
        : "this daemon has a cluster key: a request needs a token of it",
    hint:
      right === "monitor"
        ? "use the other token: walb key token FILE"
        : 'make one with: walb key token FILE; and use it so: curl --cacert ca-cert.pem -H "Authorization: Bearer TOKEN" https://…',
  });
}

/** True for names that always mean this host. */
export function isLoopbackName(name: string): boolean {
  return name === "localhost" || name === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

function hostName(host: string): string {
  const bracketed = /^\[([^\]]*)\](:\d*)?$/.exec(host);
  return (bracketed?.[1] ?? host.replace(/:\d*$/, "")).toLowerCase();
}

function originHost(origin: string): string | undefined {
  try {
    return new URL(origin).host;
  } catch {
    return undefined;
  }
}
