/** @module `verify_written_data`: looks up the writes of a recipe on a device. */
import { withFile, withInput } from "../../files/lib/paths.ts";
import { parseRecipe } from "../recipe.ts";
import { readText } from "../text.ts";
import { defineOriginal } from "../tool.ts";
import { checkWritten } from "../written.ts";

export const tool = defineOriginal({
  name: "verify_written_data",
  description: "verify_written_data: check that a device holds what a recipe wrote last",
  options: {
    b: { kind: "int", help: "accepted, without effect: recipes count blocks of 512 bytes", default: "512" },
    r: { kind: "text", help: "recipe path, - for stdin", default: "-" },
  },
  params: [{ name: "DEV", help: "device or file" }],
  async run({ args, tool, print }) {
    const text = await withInput(tool.platform.disk, args.text("r"), (input) => readText(tool.platform, input));
    const bad = await withFile(tool.platform.disk, args.param(0), "read", (file) =>
      checkWritten(tool, file, parseRecipe(text, args.text("r")), print),
    );
    return bad === 0 ? 0 : 1;
  },
});
