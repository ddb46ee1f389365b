/** @module `verify_wlog`: looks up the writes of a recipe in a wlog. */
import { WalbError } from "../../../errors.ts";
import { withInput } from "../../files/lib/paths.ts";
import { showWlog } from "../../files/lib/wlog-show.ts";
import { parseRecipe, RecipeCheck } from "../recipe.ts";
import { readText } from "../text.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "verify_wlog",
  description: "verify_wlog: check that a wlog holds the IOs of a recipe",
  options: {
    r: { kind: "text", help: "recipe path, - for stdin", default: "-" },
    w: { kind: "text", help: "wlog path, - for stdin", default: "-" },
  },
  params: [],
  async run({ args, tool, print }) {
    if (args.text("r") === "-" && args.text("w") === "-") {
      throw new WalbError("usage", { what: "recipe and wlog cannot both come from standard input" });
    }
    const { disk } = tool.platform;
    const text = await withInput(disk, args.text("r"), (input) => readText(tool.platform, input));
    const check = new RecipeCheck(parseRecipe(text, args.text("r")), (bad) => print(`NG ${bad}`));
    let salt = 0;
    await withInput(disk, args.text("w"), (input) =>
      showWlog(tool, input, {
        checkData: true,
        lenient: true,
        onHeader: (header) => {
          ({ salt } = header);
        },
        onPack: ({ header, lsidBase }) => check.add(header, salt, lsidBase),
      }),
    );
    check.end();
    return check.bad === 0 ? 0 : 1;
  },
});
