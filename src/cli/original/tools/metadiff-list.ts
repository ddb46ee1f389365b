/** @module `metadiff-list`: reads wdiff names from a list. */

import { basename } from "node:path";
import { parseDiffFileName } from "../../../snapshot/filename.ts";
import { withInput } from "../../files/lib/paths.ts";
import { readText } from "../text.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "metadiff-list",
  description: "metadiff-list: parse the wdiff names of a list",
  options: { l: { kind: "text", help: "file with one name a line, - for stdin", default: "-" } },
  params: [],
  async run({ args, tool, print }) {
    const text = await withInput(tool.platform.disk, args.text("l"), (input) => readText(tool.platform, input));
    const names = text.split("\n").filter((line) => line.trim() !== "");
    for (const name of names) parseDiffFileName(basename(name.trim()));
    print(String(names.length));
    return 0;
  },
});
