/** @module `walb completion SHELL` */
import { program } from "../commands.ts";
import { completedCommands } from "../completion/model.ts";
import { completedOriginals } from "../completion/originals.ts";
import { renderCompletion, shells } from "../completion/scripts.ts";
import { asChoice } from "../flags.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Prints what makes a shell complete the commands and flags of walb",
  description: "The script says at its top how to load it: once, or for good.",
  positionals: [{ name: "SHELL", help: shells.join(", "), isRequired: true, choices: shells }],
  flags: {},
  examples: [
    "walb completion bash > /etc/bash_completion.d/walb",
    "walb completion zsh",
    "walb completion fish > ~/.config/fish/completions/walb.fish",
  ],
  async run({ args, io }) {
    const shell = asChoice(shells)(args[0]!);
    const originals = await completedOriginals();
    // Of wdevc help knows only that it is there.
    const isOriginal = (line: string): boolean => originals.some((tool) => tool.line === line);
    const own = (await completedCommands(program)).filter(({ line }) => !isOriginal(line));
    io.out(renderCompletion(shell, [...own, ...originals]));
    return 0;
  },
});
