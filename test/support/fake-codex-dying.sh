#!/bin/sh
# Takes the handshake and the login, and dies of the first request.
[ "$1" = --version ] && echo 'codex-cli 0.169.0' && exit
read -r _initialize
echo '{"id":1,"result":{}}'
read -r _initialized
read -r _login
echo '{"id":2,"result":{}}'
read -r _request
echo 'thread panicked, api_key=sk-0123456789abcdef' >&2
exit 7
