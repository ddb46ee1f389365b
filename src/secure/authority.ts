/**
 * @module The certificate authority of a cluster key: for clients of other makes, which know certificates and nothing else.
 *
 * Its private key is derived from the cluster key, so that every host that has the key is the same authority and there is
 * nothing to run, to store or to hand around. Certificates of daemons are made at their start and kept in memory.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import type { CertificatePair } from "../platform/net.ts";
import type { ClusterKey, ClusterKeys } from "./key.ts";
import { isAddress, keyFromBytes, keyPem, makeCertificate } from "./x509.ts";

const dayMs = 86_400_000;
/** The authority lives as long as its key; a fixed time, since every host must make the same one. */
const authorityFromMs = Date.UTC(2020, 0, 1);
const authorityToMs = Date.UTC(9999, 11, 31, 23, 59, 59);
/** Some clients take no server's certificate that is good for longer. */
const serverDays = 397;
/** A daemon makes itself a new one after this time. */
const renewDays = 30;
/** Clocks of hosts differ. */
const earlierMs = dayMs;

/** What making certificates needs of the world. */
export interface AuthorityContext {
  readonly nowMs: () => number;
  readonly randomBytes: (sizeBytes: number) => Uint8Array;
}

/** Certificates of the authorities of all keys, PEM: what a client trusts. */
export function authoritiesPem(keys: ClusterKeys): string {
  return keys.all.map((key) => authorityPem(key)).join("");
}

/** A certificate for a client of another make, signed with the first key. */
export function issueClient(keys: ClusterKeys, name: string, days: number, context: AuthorityContext): CertificatePair {
  return issue(keys.all[0], { purpose: "client", subject: name, days }, context);
}

/** Gives a daemon its certificate, and a new one when that has grown old. */
export class ServerCertificates {
  readonly #key: ClusterKey;
  readonly #names: readonly string[];
  readonly #context: AuthorityContext;
  #made: { readonly pair: CertificatePair; readonly atMs: number } | undefined;

  /** @param names host names and addresses at which clients reach the daemon. */
  constructor(keys: ClusterKeys, names: readonly string[], context: AuthorityContext) {
    this.#key = keys.all[0];
    this.#names = [...new Set(names)].filter((name) => isAddress(name) || /^[A-Za-z0-9_.-]{1,253}$/.test(name));
    this.#context = context;
  }

  current(): CertificatePair {
    const nowMs = this.#context.nowMs();
    if (this.#made !== undefined && Math.abs(nowMs - this.#made.atMs) < renewDays * dayMs) return this.#made.pair;
    const subject = this.#names.find((name) => !isAddress(name)) ?? "walb";
    const wish = { purpose: "server", subject, days: serverDays, names: this.#names } as const;
    this.#made = { pair: issue(this.#key, wish, this.#context), atMs: nowMs };
    return this.#made.pair;
  }
}

function authorityPem(key: ClusterKey): string {
  const issuerKey = authorityKey(key);
  return makeCertificate({
    subject: authorityName(key),
    issuer: authorityName(key),
    purpose: "authority",
    publicKey: createPublicKey(issuerKey),
    issuerKey,
    // The same for all hosts; the signature in it differs each time it is made.
    serial: Buffer.concat([Buffer.of(1), key.id]),
    notBeforeMs: authorityFromMs,
    notAfterMs: authorityToMs,
  });
}

interface Wish {
  readonly purpose: "server" | "client";
  readonly subject: string;
  readonly days: number;
  readonly names?: readonly string[];
}

function issue(key: ClusterKey, wish: Wish, { nowMs, randomBytes }: AuthorityContext): CertificatePair {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const serial = Buffer.concat([Buffer.of(2), randomBytes(15)]);
  const certificatePem = makeCertificate({
    subject: wish.subject.slice(0, 64),
    issuer: authorityName(key),
    purpose: wish.purpose,
    publicKey,
    issuerKey: authorityKey(key),
    serial,
    notBeforeMs: nowMs() - earlierMs,
    notAfterMs: nowMs() + wish.days * dayMs,
    ...(wish.names === undefined ? {} : { names: wish.names }),
  });
  return { certificatePem, keyPem: keyPem(privateKey) };
}

function authorityName(key: ClusterKey): string {
  return `walb cluster ${key.fingerprint}`;
}

function authorityKey(key: ClusterKey): KeyObject {
  return keyFromBytes(key.derive("certificate-authority", 48));
}
