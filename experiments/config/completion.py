"""Tab completion in bash for `python -m experiments.train`.

Hydra's own script completes programs and files, not modules; what it answers to queries is right.
"""

INSTALL = "install=bash"
SCRIPT = r"""
_experiments_train() {
    local typed="${COMP_LINE#*-m experiments.train}"
    COMPREPLY=()
    [ "$typed" == "$COMP_LINE" ] && return
    COMPREPLY=($(COMP_LINE="train$typed" "${COMP_WORDS[0]}" -m experiments.train -sc query=bash 2>/dev/null))
}
# Where `=` breaks words, bash would complete the part behind it alone.
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -o nospace -F _experiments_train python python3 .venv/bin/python
"""  # noqa: E501
