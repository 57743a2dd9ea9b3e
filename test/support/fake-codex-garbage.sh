#!/bin/sh
# Writes what is no JSON, then waits.
[ "$1" = --version ] && echo 'codex-cli 0.169.0' && exit
echo 'this is not JSON'
echo '[1, 2, 3]'
echo '{"neither": "request nor reply"}'
cat >/dev/null
