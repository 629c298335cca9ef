# bash completion for livemerge                             -*- shell-script -*-
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The program itself knows what can stand where: "livemerge __complete WORD... CURRENT" prints one
# candidate a line and never takes longer than a second.

_livemerge() {
    local line=${COMP_LINE:0:COMP_POINT} word trimmed prefix candidate glued
    local -a words=() candidates=()
    local i

    # Bash splits at "=" and ":" too. Put pieces together again that touch on the line.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${line#"${line%%[![:space:]]*}"}
        glued=no
        ((i > 0)) && [[ $trimmed == "$line" && -n $line ]] && glued=yes
        word=${trimmed:0:${#word}} # what is right of the cursor does not count
        line=${trimmed:${#word}}
        if [[ $glued == yes ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    # Only quotes and backslashes are taken away; nothing is ever evaluated.
    for i in "${!words[@]}"; do
        words[i]=${words[i]//[\\\"\']/}
    done

    mapfile -t candidates < <(timeout 1.5 livemerge __complete "${words[@]:1}" 2>/dev/null)
    # Bash wants only what comes after the last "=" or ":" that it split at.
    prefix=${words[-1]%"${words[-1]##*[=:]}"}
    [[ $COMP_WORDBREAKS == *=* ]] || prefix=
    COMPREPLY=()
    for candidate in "${candidates[@]}"; do
        candidate=${candidate#"$prefix"}
        # Inside quotes a name is left out that would not stand for itself there.
        case ${COMP_WORDS[COMP_CWORD]} in
        \"*) [[ $candidate == *[\"\\\$\`!]* ]] || COMPREPLY+=("$candidate") ;;
        \'*) [[ $candidate == *[\'!]* ]] || COMPREPLY+=("$candidate") ;;
        *) COMPREPLY+=("$(printf %q "$candidate")") ;;
        esac
    done
}
complete -o default -F _livemerge livemerge
