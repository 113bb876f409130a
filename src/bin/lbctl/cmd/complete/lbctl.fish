# fish completion for lbctl. `lbctl completions fish` prints it.

function __lbctl_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    $words[1] complete -- $words[2..] $current 2>/dev/null
end

complete --command lbctl --no-files --arguments '(__lbctl_complete)'
