/** @module `diffinfo-to-filename.py`: names of wdiff files from the lines of `walbc get diff`. */
import { diffFileName } from "../../../snapshot/filename.ts";
import { parseDiffText } from "../../../snapshot/text.ts";
import { withInput } from "../../files/lib/paths.ts";
import { readText } from "../text.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "diffinfo-to-filename.py",
  description:
    "diffinfo-to-filename.py: names of the wdiff files that lines of `walbc get diff` on standard input tell of",
  options: {},
  params: [],
  async run({ tool, print }) {
    const text = await withInput(tool.platform.disk, "-", (input) => readText(tool.platform, input));
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    for (const line of lines) print(diffFileName(parseDiffText(line.trim())));
    return 0;
  },
});
