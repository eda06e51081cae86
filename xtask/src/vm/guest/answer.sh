#!/bin/bash
# Runs what the host sends over the second serial line: one script a line, in hexadecimal, each in a shell of its own.
# The answer is one line too: the exit code, and what was printed.
stty raw -echo
echo
echo "ready"
while IFS= read -r line; do
    printf '%b' "$(sed 's/../\\x&/g' <<<"$line")" >/run/request
    bash /run/request </dev/null >/run/printed 2>&1
    code=$?
    echo "answer $code $(od -An -v -tx1 /run/printed | tr -d ' \n')"
done
