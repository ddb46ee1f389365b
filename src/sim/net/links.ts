/** @module What fate does to the way between two hosts: quality, partitions, refusals, byte faults. */
import type { LinkQuality } from "../api.ts";

const perfect: LinkQuality = {
  latency: { minMs: 0.1, maxMs: 1 },
  bytesPerSecond: 1_000_000_000,
  windowBytes: 256 * 1024,
  maxChunkBytes: 64 * 1024,
  retransmitLimitMs: 15 * 60_000,
};

/** One direction between two hosts. */
export interface Link {
  readonly from: string;
  readonly to: string;
  quality: LinkQuality;
  isBlocked: boolean;
  /** One of the hosts is without power. */
  isDark: boolean;
  isRefused: boolean;
  deliveredBytes: number;
  /** Value of `deliveredBytes` at which connections are reset. */
  cutAtBytes: number | undefined;
  /** Position of the byte to be changed, in terms of `deliveredBytes`. */
  corruptAtBytes: number | undefined;
  /** Only a piece of at least this size is changed, in its middle. */
  corruptPieceBytesMin: number | undefined;
  /** Called when the way opens again. */
  readonly waiters: Set<() => void>;
}

/** All directions, made on first use; rules given for "*" hold for directions made later too. */
export class Links {
  private readonly links = new Map<string, Link>();
  private readonly rules: { readonly from: string; readonly to: string; readonly change: (link: Link) => void }[] = [];

  private readonly dark = new Set<string>();

  between(from: string, to: string): Link {
    const key = `${from}\n${to}`;
    const known = this.links.get(key);
    if (known !== undefined) return known;
    const link: Link = {
      from,
      to,
      quality: perfect,
      isBlocked: false,
      isDark: this.dark.has(from) || this.dark.has(to),
      isRefused: false,
      deliveredBytes: 0,
      cutAtBytes: undefined,
      corruptAtBytes: undefined,
      corruptPieceBytesMin: undefined,
      waiters: new Set(),
    };
    this.links.set(key, link);
    for (const rule of this.rules) if (isMatch(rule, link)) rule.change(link);
    return link;
  }

  /** Changes one direction, or with "*" all that match, now and in future. */
  change(from: string, to: string, change: (link: Link) => void): void {
    if (from === "*" || to === "*") this.rules.push({ from, to, change });
    else this.between(from, to);
    for (const link of this.links.values()) if (isMatch({ from, to }, link)) change(link);
  }

  /** Ends a partition and wakes what waits for it. */
  open(from: string, to: string): void {
    this.change(from, to, (link) => {
      link.isBlocked = false;
      wakeAll(link);
    });
  }

  /** A host without power takes and sends nothing. */
  setDark(host: string, isDark: boolean): void {
    if (isDark) this.dark.add(host);
    else this.dark.delete(host);
    for (const link of this.links.values()) {
      if (link.from !== host && link.to !== host) continue;
      link.isDark = this.dark.has(link.from) || this.dark.has(link.to);
      if (!link.isDark) wakeAll(link);
    }
  }
}

/** True when nothing gets through. */
export function isSevered(link: Link): boolean {
  return link.isBlocked || link.isDark;
}

function wakeAll(link: Link): void {
  const waiters = [...link.waiters];
  link.waiters.clear();
  for (const wake of waiters) wake();
}

/** "*" matches every host, but no rule with "*" holds for a host's way to itself. */
function isMatch(rule: { readonly from: string; readonly to: string }, link: Link): boolean {
  const hasWildcard = rule.from === "*" || rule.to === "*";
  if (hasWildcard && link.from === link.to) return false;
  return (rule.from === "*" || rule.from === link.from) && (rule.to === "*" || rule.to === link.to);
}
