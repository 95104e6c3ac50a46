/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/completion_scripts.h"

#include <stddef.h>

/* bash cuts words at "=": they are put together again, and what stands before the last "=" is not for it to replace. */
static const char bash[] =
        "# bash completion for stasis; made by: stasis completion bash\n"
        "_stasis() {\n"
        "        local word line cut='' i\n"
        "        local -a words=() lines=()\n"
        "        for ((i = 1; i <= COMP_CWORD; i++)); do\n"
        "                word=${COMP_WORDS[i]}\n"
        "                if ((${#words[@]})) && { [[ $word == = ]] || [[ ${words[-1]} == --*= ]]; }; then\n"
        "                        words[-1]+=$word\n"
        "                else\n"
        "                        words+=(\"$word\")\n"
        "                fi\n"
        "        done\n"
        "        word=''\n"
        "        ((${#words[@]})) && word=${words[-1]}\n"
        "        [[ $word == --*=* ]] && cut=${word%%=*}=\n"
        "        mapfile -t lines < <(\"$1\" __complete -- \"${words[@]}\" 2>/dev/null)\n"
        "        COMPREPLY=()\n"
        "        for line in \"${lines[@]}\"; do\n"
        "                case $line in\n"
        "                :nothing) ;;\n"
        "                :files | :directories)\n"
        "                        compopt -o filenames\n"
        "                        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY \\\n"
        "                                < <(compgen \"-${line:1:1}\" -- \"${word#\"$cut\"}\") ;;\n"
        "                *) line=${line%%$'\\t'*}; COMPREPLY+=(\"${line#\"$cut\"}\") ;;\n"
        "                esac\n"
        "        done\n"
        "}\n"
        "complete -F _stasis stasis\n";

static const char zsh[] =
        "#compdef stasis\n"
        "# zsh completion for stasis; made by: stasis completion zsh\n"
        "_stasis() {\n"
        "        local line value\n"
        "        local -a candidates\n"
        "        for line in ${(f)\"$(${words[1]} __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"}; do\n"
        "                case $line in\n"
        "                :nothing) ;;\n"
        "                :files) compset -P '--*='; _files ;;\n"
        "                :directories) compset -P '--*='; _files -/ ;;\n"
        "                *) value=${line%%$'\\t'*}; candidates+=(\"${value//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
        "                esac\n"
        "        done\n"
        "        (( $#candidates )) && _describe -V stasis candidates\n"
        "}\n"
        "if [[ $funcstack[1] == _stasis ]]; then _stasis \"$@\"; else compdef _stasis stasis; fi\n";

static const char fish[] =
        "# fish completion for stasis; made by: stasis completion fish\n"
        "function __stasis_candidates\n"
        "        set -l words (commandline -opc) (commandline -ct)\n"
        "        for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)\n"
        "                switch $line\n"
        "                        case :nothing\n"
        "                        case :files\n"
        "                                __fish_complete_path (string replace -r '^--[^=]*=' '' -- (commandline -ct))\n"
        "                        case :directories\n"
        "                                __fish_complete_directories \\\n"
        "                                        (string replace -r '^--[^=]*=' '' -- (commandline -ct))\n"
        "                        case '*'\n"
        "                                echo $line\n"
        "                end\n"
        "        end\n"
        "end\n"
        "complete -c stasis -f -a '(__stasis_candidates)'\n";

const struct completion_script completion_scripts[] = {
        { "bash", bash },
        { "zsh", zsh },
        { "fish", fish },
        { NULL, NULL },
};
