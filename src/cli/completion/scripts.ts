/** @module Completion scripts for shells: static text, so that pressing Tab starts no process. */
import type { CompletedCommand, ValueKind } from "./model.ts";

/** The shells there are scripts for. */
export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

/** The script of a shell. */
export function renderCompletion(shell: Shell, commands: readonly CompletedCommand[]): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](commands);
}

function bashScript(commands: readonly CompletedCommand[]): string {
  const words = commands.map(({ line, words: next, flags, takesFiles }) => {
    const labels = flags.flatMap(({ labels: [long = ""] }) => [long]);
    const following = next.map(({ word }) => word).join(" ");
    const files = takesFiles === true ? " files=1" : "";
    return `    ${quote(line)}) words=${quote(following)} flags=${quote(labels.join(" "))}${files} ;;\n`;
  });
  return `# Completion of walb for bash. Now: source <(walb completion bash)
# For good: walb completion bash > /etc/bash_completion.d/walb
_walb() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} line=walb words= flags= files= i
  # bash parts --flag=value into three words.
  if [[ $cur == "=" ]]; then
    cur=
  elif [[ $prev == "=" ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$line \${COMP_WORDS[i]}" in
    ${patterns(commands)}) line="$line \${COMP_WORDS[i]}" ;;
    *) break ;;
    esac
  done
  COMPREPLY=()
  case "$line $prev" in
${valueCases(commands, {
  choice: (choices) => `mapfile -t COMPREPLY < <(compgen -W ${quote(choices.join(" "))} -- "$cur"); return`,
  file: `compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return`,
  other: () => "return",
})}  esac
  case "$line" in
${words.join("")}  esac
  if [[ $cur == -* ]]; then
    words=$flags
  elif [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _walb walb
`;
}

function zshScript(commands: readonly CompletedCommand[]): string {
  const item = (word: string, help: string): string => quote(`${word}:${help.replaceAll(":", "\\:")}`);
  const cases = commands.map(({ line, words, flags }) => {
    const next = words.map(({ word, help }) => item(word, help)).join(" ");
    const labels = flags.flatMap(({ labels: names, help }) => names.map((name) => item(name, help))).join(" ");
    return `    ${quote(line)}) next=(${next}) flags=(${labels}) ;;\n`;
  });
  return `#compdef walb
# Completion of walb for zsh. Now: source <(walb completion zsh)
# For good: walb completion zsh > "\${fpath[1]}/_walb"
_walb() {
  local cur=\${words[CURRENT]} prev=\${words[CURRENT - 1]} line=walb i
  local -a next flags choices
  for ((i = 2; i < CURRENT; i++)); do
    case "$line \${words[i]}" in
    ${patterns(commands)}) line="$line \${words[i]}" ;;
    *) break ;;
    esac
  done
  case "$line $prev" in
${valueCases(commands, {
  choice: (choices) => `choices=(${choices.map(quote).join(" ")}); _describe value choices; return`,
  file: "_files; return",
  other: (name) => `_message ${quote(name)}; return`,
})}  esac
  case "$line" in
${cases.join("")}  esac
  if [[ $cur == -* ]]; then
    _describe flag flags
  elif (( \${#next} )); then
    _describe command next
  else
    _files
  fi
}
if [[ \${funcstack[1]} == _walb ]]; then
  _walb "$@"
else
  compdef _walb walb
fi
`;
}

function fishScript(commands: readonly CompletedCommand[]): string {
  let text = `# Completion of walb for fish. Now: walb completion fish | source
# For good: walb completion fish > ~/.config/fish/completions/walb.fish
function __walb_line
    set -l line walb
    for word in (commandline -opc)[2..-1]
        switch "$line $word"
            case ${lines(commands).map(quote).join(" ")}
                set line "$line $word"
            case '*'
                break
        end
    end
    echo $line
end
function __walb_at
    test (__walb_line) = "$argv"
end
complete -c walb -f
`;
  for (const { line, words, flags, takesFiles } of commands) {
    const at = `complete -c walb -n ${quote(`__walb_at ${line}`)}`;
    if (takesFiles === true) text += `${at} -F\n`;
    for (const { word, help } of words) text += `${at} -a ${quote(word)} -d ${fishQuote(help)}\n`;
    for (const { labels, help, value } of flags) {
      const names = labels.map(fishName);
      text += `${at} ${names.join(" ")}${fishValue(value)} -d ${fishQuote(help)}\n`;
    }
  }
  return text;
}

/** How fish is told of a flag: long, short, or of the old style with one dash. */
function fishName(label: string): string {
  if (label.startsWith("--")) return `-l ${label.slice(2)}`;
  return `${label.length === 2 ? "-s" : "-o"} ${label.slice(1)}`;
}

/** In single quotes fish reads a backslash before a quote or another backslash. */
function fishQuote(text: string): string {
  return quote(text.replaceAll("\\", "\\\\"));
}

function fishValue(value: ValueKind | undefined): string {
  if (value === undefined) return "";
  if (value.kind === "file") return " -r -F";
  return value.kind === "choice" ? ` -x -a ${quote(value.choices.join(" "))}` : " -x";
}

/** Lines of everything below the program itself. */
function lines(commands: readonly CompletedCommand[]): string[] {
  return commands.map(({ line }) => line).filter((line) => line.includes(" "));
}

function patterns(commands: readonly CompletedCommand[]): string {
  return lines(commands).map(quote).join(" | ");
}

/** Branches of a case over `"$line $prev"`, for bash and zsh. */
function valueCases(
  commands: readonly CompletedCommand[],
  act: { choice(choices: readonly string[]): string; readonly file: string; other(name: string): string },
): string {
  const labelsByAction = new Map<string, string[]>();
  for (const { line, flags } of commands) {
    for (const { labels, value } of flags) {
      if (value === undefined) continue;
      const action =
        value.kind === "choice" ? act.choice(value.choices) : value.kind === "file" ? act.file : act.other(value.name);
      const known = labelsByAction.get(action) ?? [];
      labelsByAction.set(action, [...known, ...labels.map((label) => quote(`${line} ${label}`))]);
    }
  }
  return [...labelsByAction].map(([action, labels]) => `  ${labels.join(" | ")}) ${action} ;;\n`).join("");
}

/** A word that all three shells read as it is. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "’")}'`;
}
