/** @module X.509 certificates (RFC 5280) over P-256: making keys, and signing what clients of other makes check. */
import { createECDH, createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { assert } from "../errors.ts";
import {
  bitString,
  boolean,
  element,
  integer,
  octetString,
  oid,
  pem,
  sequence,
  tagged,
  tags,
  time,
  utf8,
} from "./der.ts";

const curve = "prime256v1";
/** Order of P-256. */
const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const scalarBytes = 32;

/** What a certificate is for. */
export type Purpose = "authority" | "server" | "client";

/** What to put into a certificate. */
export interface CertificateRequest {
  readonly subject: string;
  readonly issuer: string;
  readonly purpose: Purpose;
  /** Whom it is for. */
  readonly publicKey: KeyObject;
  /** Who signs. */
  readonly issuerKey: KeyObject;
  /** Up to 20 bytes, the first below 128. */
  readonly serial: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Host names and IP addresses of a server. */
  readonly names?: readonly string[];
}

/** A private key from 48 bytes: the same bytes give the same key (FIPS 186-5 A.2.1: extra random bits). */
export function keyFromBytes(bytes: Uint8Array): KeyObject {
  assert(bytes.length === scalarBytes + 16, "48 bytes make a key");
  const wide = BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  const scalar = (wide % (order - 1n)) + 1n;
  const secret = Buffer.from(scalar.toString(16).padStart(2 * scalarBytes, "0"), "hex");
  const exchange = createECDH(curve);
  exchange.setPrivateKey(secret);
  // Uncompressed: 4, x, y.
  const point = exchange.getPublicKey();
  const part = (from: number): string => point.subarray(from, from + scalarBytes).toString("base64url");
  return createPrivateKey({
    key: { kty: "EC", crv: "P-256", d: secret.toString("base64url"), x: part(1), y: part(1 + scalarBytes) },
    format: "jwk",
  });
}

/** PKCS #8. */
export function keyPem(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

/** Makes and signs a certificate; PEM. */
export function makeCertificate(request: CertificateRequest): string {
  const { issuerKey, publicKey, purpose } = request;
  const algorithm = sequence(oid("1.2.840.10045.4.3.2"));
  const publicBytes = publicKey.export({ type: "spki", format: "der" });
  const body = sequence(
    tagged(0, integer(Buffer.of(2))),
    integer(request.serial),
    algorithm,
    nameOf(request.issuer),
    sequence(time(request.notBeforeMs), time(request.notAfterMs)),
    nameOf(request.subject),
    publicBytes,
    tagged(3, sequence(...extensions(purpose, publicBytes, createPublicKey(issuerKey), request.names ?? []))),
  );
  const signature = sign("sha256", body, issuerKey);
  return pem("CERTIFICATE", sequence(body, algorithm, bitString(signature)));
}

function extensions(
  purpose: Purpose,
  publicBytes: Uint8Array,
  issuer: KeyObject,
  names: readonly string[],
): Uint8Array[] {
  const isAuthority = purpose === "authority";
  const issuerBytes = issuer.export({ type: "spki", format: "der" });
  // keyCertSign and cRLSign, or digitalSignature: bits 5 and 6, or 0.
  const usage = isAuthority ? bitString(Buffer.of(0x06), 1) : bitString(Buffer.of(0x80), 7);
  const found = [
    extension("2.5.29.19", true, isAuthority ? sequence(boolean(true), integer(Buffer.of(0))) : sequence()),
    extension("2.5.29.15", true, usage),
    extension("2.5.29.14", false, octetString(keyHash(publicBytes))),
    extension("2.5.29.35", false, sequence(element(0x80, keyHash(issuerBytes)))),
  ];
  if (!isAuthority) {
    const role = purpose === "server" ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2";
    found.push(extension("2.5.29.37", false, sequence(oid(role))));
  }
  if (names.length > 0) found.push(extension("2.5.29.17", false, sequence(...names.map(alternativeName))));
  return found;
}

function extension(id: string, isCritical: boolean, value: Uint8Array): Uint8Array {
  return sequence(oid(id), ...(isCritical ? [boolean(true)] : []), octetString(value));
}

/** A distinguished name that has a common name only. */
function nameOf(common: string): Uint8Array {
  return sequence(element(tags.set, sequence(oid("2.5.4.3"), utf8(common))));
}

/** True for an IP address, false for a host name. */
export function isAddress(name: string): boolean {
  return name.includes(":") || /^\d{1,3}(\.\d{1,3}){3}$/.test(name);
}

function alternativeName(name: string): Uint8Array {
  return isAddress(name) ? element(0x87, addressBytes(name)) : element(0x82, Buffer.from(name, "latin1"));
}

/** Identifies a public key within certificates; any hash will do. */
function keyHash(publicBytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(publicBytes).digest().subarray(0, 20);
}

function addressBytes(address: string): Uint8Array {
  if (!address.includes(":")) return Buffer.from(address.split(".").map(Number));
  const [head = "", tail] = address.replace(/%.*$/, "").split("::");
  const groups = (part: string): number[] =>
    part === ""
      ? []
      : part.split(":").flatMap((group) => {
          if (group.includes(".")) return group.split(".").map(Number);
          const value = Number.parseInt(group, 16);
          return [value >>> 8, value & 0xff];
        });
  const [before, after] = [groups(head), groups(tail ?? "")];
  return Buffer.from([...before, ...new Array<number>(16 - before.length - after.length).fill(0), ...after]);
}
