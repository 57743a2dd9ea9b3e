#!/bin/sh
# A stand-in for codex that replays the lines of a recorded turn at full speed, which the real one is too slow for.
[ "$1" = --version ] && echo 'codex-cli 0.169.0' && exit
exec node "$(dirname "$0")/fake-codex-lines.mjs"
