#!/bin/sh
# Ends before the handshake; writes down that it was started, in its working directory (the workspace).
[ "$1" = --version ] && echo 'codex-cli 0.169.0' && exit
echo started >>starts
echo 'a fatal error of the fake codex, password=hunter2hunter2' >&2
exit 3
