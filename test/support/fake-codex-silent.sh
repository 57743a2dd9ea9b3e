#!/bin/sh
# Takes everything and never answers.
[ "$1" = --version ] && echo 'codex-cli 0.169.0' && exit
cat >/dev/null
