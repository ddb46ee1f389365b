/** @module What paths lead to on this host: short metadata calls on this thread. */
import { fstatSync, lstatSync, readlinkSync, realpathSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { errnoError, errnoOf } from "../../native/errno.ts";

const errnoNotFound = 2;
const errnoNotDirectory = 20;
const errnoLoop = 40;
/** Links followed one after the other, as in the kernel. */
const linksMax = 40;

/** Does a short metadata call on this thread, with failures as WalbErrors. */
export function attempt<T>(what: string, path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    throw errnoError(what, errno, { file: path });
  }
}

/** True when a path names the file that is open. */
export function isFileAt(path: string, fd: number): boolean {
  const named = statOf(path);
  const opened = fstatSync(fd);
  return named !== undefined && named.dev === opened.dev && named.ino === opened.ino;
}

/** Resolves as much of an absolute path as there is. */
export function realPathOf(path: string, depth = 0): string {
  try {
    return realpathSync(path);
  } catch (error) {
    const errno = errnoOf(error);
    if ((errno !== errnoNotFound && errno !== errnoNotDirectory) || path === "/") throw error;
    const directory = realPathOf(dirname(path), depth);
    const here = join(directory, basename(path));
    if (!isLink(here)) return here;
    // A circle of links that leads through what is not there.
    if (depth >= linksMax) throw errnoError("resolving", errnoLoop, { file: path });
    return realPathOf(resolve(directory, readlinkSync(here)), depth + 1);
  }
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
  } catch (error) {
    if (errnoOf(error) === errnoNotDirectory) return false;
    throw error;
  }
}

/** What a path leads to; undefined when there is nothing. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    // A part of the path is a file: below it there is nothing either.
    if (errnoOf(error) === errnoNotDirectory) return undefined;
    return attempt("stat", path, () => {
      throw error;
    });
  }
}
