/** @module `dirtree-hash`: hashes a directory tree. */
import { checkRange } from "../../../units.ts";
import { hashDirectoryTree } from "../dirtree.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "dirtree-hash",
  description: "dirtree-hash: hash of the names and contents of a directory tree",
  options: {
    time: { kind: "flag", help: "the times of last change count, too" },
    owner: { kind: "flag", help: "users and groups count, too" },
    perm: { kind: "flag", help: "permissions count, too" },
    all: { kind: "flag", help: "-time -owner -perm" },
    each: { kind: "flag", help: "also the hash of every entry" },
    pp: { kind: "int", help: "files to read at once", default: "4" },
  },
  params: [{ name: "DIR", help: "directory", default: ".", isOptional: true }],
  async run({ args, tool, print }) {
    const isAll = args.flag("all");
    const hash = await hashDirectoryTree(args.param(0), {
      time: isAll || args.flag("time"),
      owner: isAll || args.flag("owner"),
      permissions: isAll || args.flag("perm"),
      parallel: checkRange(args.int("pp"), 1, 64, "pp"),
      signal: tool.signal,
      ...(args.flag("each") ? { onEntry: (path, one) => print(`${one} ${path}`) } : {}),
    });
    print(`${hash} ${args.param(0)}`);
    return 0;
  },
});
