/** @module What shells can complete behind `walb NAME`, for the names of the original's tools. */
import { loadOriginalTools } from "../original/index.ts";
import type { OriginalSyntax } from "../original/options.ts";
import { walbcCommands } from "../original/walbc/syntax.ts";
import { wdevcCommands } from "../original/wdevc/commands.ts";
import type { CompletedCommand, CompletedFlag, ValueKind } from "./model.ts";

/** Every tool under its name, with its own words and flags. */
export async function completedOriginals(): Promise<CompletedCommand[]> {
  const tools = (await loadOriginalTools()).map((tool): CompletedCommand => {
    const isController = tool.name === "walbc";
    const words = isController ? Object.entries(walbcCommands).map(([word, { words: help }]) => ({ word, help })) : [];
    const text: ValueKind = isController ? { kind: "other", name: "VALUE" } : { kind: "file" };
    return { line: `walb ${tool.name}`, words, flags: flagsOf(tool, text), takesFiles: !isController };
  });
  const deviceCommands = [...wdevcCommands].map(([word, tool]): CompletedCommand => {
    const flags = flagsOf(tool, { kind: "other", name: "VALUE" });
    return { line: `walb wdevc ${word}`, words: [], flags, takesFiles: true };
  });
  const deviceWords = [...wdevcCommands].map(([word, { description }]) => ({
    word,
    help: description.slice(word.length + 2),
  }));
  return [...tools, { line: "walb wdevc", words: deviceWords, flags: [helpFlag] }, ...deviceCommands];
}

const helpFlag: CompletedFlag = { labels: ["-h"], help: "show how it is used" };

function flagsOf({ options }: OriginalSyntax, text: ValueKind): CompletedFlag[] {
  const flags = Object.entries(options).map(([name, { kind, help }]): CompletedFlag => {
    const labels = [`-${name}`];
    if (kind === "flag") return { labels, help };
    return { labels, help, value: kind === "int" ? { kind: "other", name: "NUMBER" } : text };
  });
  return [...flags, helpFlag];
}
