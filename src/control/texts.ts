/**
 * @module The form of names that commands and daemons share, without the schemas, which take long to load: the file
 * tools do not need them.
 */
import { codecNames } from "../native/codec.ts";

/** Volume ids: file names, wire names. Source: the original's parser of command parameters. */
export const volumePattern = /^[0-9A-Za-z-]{1,64}$/;

/** `host:port`, an IPv6 host in brackets; see {@link hasPort}. */
export const addressPattern = /^(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:[\]]+):[0-9]{1,5}$/;
export const addressCharsMax = 300;

/** True when the port of an address is one. */
export function hasPort(address: string): boolean {
  return Number(address.slice(address.lastIndexOf(":") + 1)) <= 65535;
}

/** `codec:level:threads` as the original writes it; level and threads may be left out, level 0 is the codec's default. */
export const compressionPattern = new RegExp(`^(${codecNames.join("|")})(:[0-9]{1,2}(:[0-9]{1,3})?)?$`);

/** True for the text of an address. */
export function isAddressText(text: string): boolean {
  return text.length <= addressCharsMax && addressPattern.test(text) && hasPort(text);
}
