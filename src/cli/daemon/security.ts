/** @module How a daemon's connections are protected: what its flags allow, and the secured network. */
import { hostname, networkInterfaces } from "node:os";
import type { Logger } from "../../control/logger.ts";
import type { RoleOptions } from "../../control/role.ts";
import { WalbError } from "../../errors.ts";
import { isLoopbackName } from "../../http/guard.ts";
import type { CertificatePair, Net } from "../../platform/net.ts";
import { createClock } from "../../platform/real/clock.ts";
import { createRandom } from "../../platform/real/random.ts";
import { authoritiesPem, ServerCertificates } from "../../secure/authority.ts";
import { secureNet } from "../../secure/net.ts";
import { Tokens } from "../../secure/token.ts";
import { readKeys } from "../key/file.ts";
import type { Io } from "../verb.ts";
import { RefusalLog } from "./refusals.ts";

/** Values of the flags that protect connections. */
export interface SecurityFlagValues {
  readonly "cluster-key": string | undefined;
  readonly "tls-name": readonly string[];
}

/** A daemon's protection by a cluster key. */
export interface Security {
  readonly secureNet: (net: Net) => Net;
  readonly tokens: Tokens;
  /** For TLS with clients of other makes. */
  readonly certificate: () => CertificatePair;
  readonly authoritiesPem: string;
}

/** @throws WalbError `usage` when the addresses would let in anybody, or the flags contradict each other. */
export function securityOf(
  flags: { readonly "cluster-key": string | undefined; readonly insecure: boolean },
  hosts: readonly string[],
  flag: string,
): RoleOptions["security"] {
  if (flags["cluster-key"] !== undefined) {
    if (!flags.insecure) return "cluster-key";
    throw new WalbError("usage", {
      what: "--insecure and --cluster-key contradict each other",
      where: { field: "insecure" },
      hint: "leave one of them out; WALB_INSECURE and WALB_CLUSTER_KEY count too",
    });
  }
  if (flags.insecure) return "insecure";
  const open = hosts.find((host) => !isLoopbackName(host));
  if (open === undefined) return "loopback";
  throw new WalbError("usage", {
    what: `--${flag} ${open}: anyone who reaches this address could read and delete ${flag === "nbd" ? "the devices" : "backups"}`,
    where: { field: flag },
    hint:
      "protect it with --cluster-key FILE, made once for all hosts with: walb key new FILE; or, when every host of the " +
      "network is trusted, say --insecure",
  });
}

/** @throws WalbError `usage` when the key file is not good. */
export function openSecurity(flags: SecurityFlagValues, io: Io, nodeId: string, log: Logger): Security | undefined {
  const file = flags["cluster-key"];
  if (file === undefined) return undefined;
  const keys = readKeys(io, file);
  const clock = createClock();
  const context = { nowMs: () => clock.nowMs(), randomBytes: createRandom().bytes };
  const certificates = new ServerCertificates(keys, [...flags["tls-name"], ...namesOfHost()], context);
  const certificate = (): CertificatePair => certificates.current();
  const refusals = new RefusalLog(clock, log);
  const onRefused = (error: WalbError): void => refusals.tell(error);
  return {
    secureNet: (net) => secureNet(net, { keys, clock, nodeId, certificate, onRefused }),
    tokens: new Tokens(keys),
    certificate,
    authoritiesPem: authoritiesPem(keys),
  };
}

/** Under which TLS clients may know this host. */
function namesOfHost(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  return [hostname(), "localhost", ...addresses.map(({ address }) => address.replace(/%.*$/, ""))];
}
