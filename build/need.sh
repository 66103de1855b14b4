#!/bin/sh
# Makes sure that commands exist. Each argument is COMMAND:PACKAGE, PACKAGE being Debian's name for what brings COMMAND.
# Root gets missing packages installed where there is apt-get; anybody else is told what to install.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps some of them, outside an ordinary user's PATH

missing=
for pair; do
	command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "Missing here, please install (names of Debian packages):$missing" >&2
	exit 1
fi
echo "Installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
