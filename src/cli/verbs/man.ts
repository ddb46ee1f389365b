/** @module `walb man` */
import { version } from "../../control/version.ts";
import { program } from "../commands.ts";
import { renderManual } from "../manual.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Prints the manual page of walb, with all its commands",
  flags: {},
  examples: ["walb man > /usr/local/share/man/man1/walb.1", "walb man | man -l -"],
  async run({ io }) {
    io.out(await renderManual(program, version));
    return 0;
  },
});
