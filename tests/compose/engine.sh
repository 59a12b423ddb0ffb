#!/usr/bin/env bash
# A Docker engine for the tests of the deployed form, on a Debian machine where we are root:
#   tests/compose/engine.sh start   install docker.io, docker-compose and debootstrap if missing; start the engine if none answers
#   tests/compose/engine.sh stop    stop the engine that `start` started; another's is left alone
# Exit code 3: there is no engine, and none can be had here.
set -euo pipefail
folder=${DRP_ENGINE_DIR:-/var/tmp/drp-engine}
tools=(docker dockerd docker-compose debootstrap iptables)

have_tools() { for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || return 1; done; }

install_tools() {
    have_tools && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "no Docker engine: it takes root and apt-get to install one" >&2; exit 3; }
    apt-get update -qq
    # Installed for their programs only: no daemon is to be started by a package.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap iptables >/dev/null
    rm -f /usr/sbin/policy-rc.d
}

answers() { docker info >/dev/null 2>&1; }

start() {
    answers && have_tools && return
    install_tools
    answers && return
    mkdir -p "$folder"
    (   # Nothing of ours stays open in it: a lock that the caller holds would be held for as long as it runs.
        for descriptor in /proc/self/fd/*; do
            number=${descriptor##*/}
            [ "$number" -le 2 ] || eval "exec $number>&-" 2>/dev/null || true
        done
        exec setsid dockerd --pidfile "$folder/pid" >"$folder/log" 2>&1 </dev/null
    ) &
    for _ in $(seq 60); do answers && return; sleep 1; done
    echo "the engine does not start; the end of $folder/log:" >&2
    tail -5 "$folder/log" >&2
    exit 3
}

stop() {
    [ -s "$folder/pid" ] || return 0
    pid=$(cat "$folder/pid")
    kill "$pid" 2>/dev/null || { rm -f "$folder/pid"; return 0; }
    for _ in $(seq 60); do [ -e "/proc/$pid" ] || return 0; sleep 0.5; done
}

case "${1:-}" in
    start | stop) "$1" ;;
    *) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
