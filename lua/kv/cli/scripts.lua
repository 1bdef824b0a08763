-- SPDX-License-Identifier: MIT
--
-- scripts.lua - the scripts that have bash, zsh and fish complete commands. Each asks `kv complete`
-- for what could stand at the cursor. This file needs nothing: `make install` runs it by itself.

local scripts = {}

-- Readline replaces only what stands behind the last of COMP_WORDBREAKS, and cuts COMP_WORDS there,
-- so the words are taken from the line instead.
scripts.bash = [==[
# Completion of kv for bash.   eval "$(kv completion bash)"
_kv() {
    local line=${COMP_LINE:0:COMP_POINT} words=() reply=() one word head
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]} - 1]}
    COMPREPLY=()
    mapfile -t reply < <("$1" complete -- "${words[@]:1}" 2>/dev/null)
    if [[ ${reply[0]} == :files ]]; then
        compopt -o default
        return
    fi
    head=${word%"${word##*[:=]}"}
    for one in "${reply[@]}"; do
        one=${one%%$'\t'*}
        COMPREPLY+=("$(printf %q "${one#"$head"}")")
    done
}
complete -F _kv kv
]==]

scripts.zsh = [==[
#compdef kv
# Completion of kv for zsh.   kv completion zsh >~/.zfunc/_kv, with ~/.zfunc in $fpath
_kv() {
    local -a reply shown
    local one name about
    reply=("${(@f)$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${reply[1]} == :files ]]; then
        _files
        return
    fi
    for one in "${reply[@]}"; do
        [[ -n $one ]] || continue
        name=${one%%$'\t'*} about=
        [[ $one == *$'\t'* ]] && about=${one#*$'\t'}
        shown+=("${name//:/\\:}${about:+:$about}")
    done
    _describe kv shown
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _kv "$@"
else
    compdef _kv kv
fi
]==]

scripts.fish = [==[
# Completion of kv for fish.   kv completion fish >~/.config/fish/completions/kv.fish
function __kv_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l reply (command $words[1] complete -- $words[2..-1] "$word" 2>/dev/null)
    if test "$reply[1]" = :files
        __fish_complete_path "$word"
    else
        printf '%s\n' $reply
    end
end
complete -c kv -f -a '(__kv_complete)'
]==]

return scripts
