#!/usr/bin/env bash
# A Docker engine for the tests where none runs: as root on Debian, in a folder of its own, without networks or firewall rules.
#   tools/ci/docker_engine.sh start    install what is missing, start dockerd, import the base image; print `export` lines
#   tools/ci/docker_engine.sh stop     end that dockerd and remove its data
# The base image stands for python:slim, which needs a registry of images: Debian's own Python, by debootstrap, with this
# machine's certificates. It is kept in $XDG_CACHE_HOME/odcloud (~/.cache/odcloud).
set -euo pipefail
ROOT=${ODCLOUD_DOCKER_ROOT:-/var/tmp/odcloud-docker}
SOCKET=$ROOT/docker.sock
SUITE=bookworm
BASE=odcloud-base:$SUITE
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/odcloud

say() { echo "docker_engine: $*" >&2; }

# Whether process $1 is a running dockerd; one that ended and was not reaped has no program any more.
runs() { [ "$(basename "$(readlink "/proc/$1/exe" 2>/dev/null)")" = dockerd ]; }

stop() {
    local pid
    pid=$(cat "$ROOT/dockerd.pid" 2>/dev/null || echo none)
    if runs "$pid"; then
        kill -TERM "$pid"
        for _ in $(seq 300); do runs "$pid" || break; sleep 0.1; done
        ! runs "$pid" || kill -KILL "$pid"
    fi
    # An engine that was killed leaves its data, its containers' layers and a network namespace mounted: the innermost first.
    findmnt --raw --noheadings --output TARGET | grep "^$ROOT/" | sort --reverse | xargs --no-run-if-empty umount --lazy || true
    rm -rf "$ROOT"
}

answers() { curl --silent --fail --max-time 5 --unix-socket "$SOCKET" http://docker/_ping >/dev/null 2>&1; }

install_missing() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v docker-registry >/dev/null || missing+=(docker-registry)  # the tests run it themselves
    command -v curl >/dev/null || missing+=(curl)
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

base_archive() {
    local archive=$CACHE/$BASE.tar work
    if [ ! -s "$archive" ]; then
        say "making the base image (some minutes, once)"
        work=$(mktemp -d "$ROOT/base.XXXXXX")
        debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates "$SUITE" "$work" >&2
        rm -rf "$work"/var/cache/apt/archives/*.deb "$work"/var/lib/apt/lists/*
        cp /etc/ssl/certs/ca-certificates.crt "$work/etc/ssl/certs/ca-certificates.crt"
        mkdir -p "$CACHE"
        tar --directory "$work" --create --one-file-system --file "$archive.part" .
        mv "$archive.part" "$archive"
        rm -rf "$work"
    fi
    echo "$archive"
}

start() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "needs root on Debian; start a Docker engine yourself"
        exit 2
    fi
    if ! answers; then
        stop
        install_missing
        mkdir -p "$ROOT"
        # No bridge: the tests use the host's network.
        nohup dockerd --host "unix://$SOCKET" --data-root "$ROOT/data" --exec-root "$ROOT/exec" --pidfile "$ROOT/dockerd.pid" \
            --iptables=false --ip6tables=false --bridge=none >"$ROOT/dockerd.log" 2>&1 </dev/null &
        for _ in $(seq 300); do answers && break; sleep 0.1; done
        answers || { say "dockerd does not answer:"; tail -n 20 "$ROOT/dockerd.log" >&2; exit 1; }
    fi
    local archive
    archive=$(base_archive)
    export DOCKER_HOST=unix://$SOCKET
    if ! curl --silent --fail --unix-socket "$SOCKET" "http://docker/images/$BASE/json" >/dev/null; then
        curl --silent --show-error --fail --unix-socket "$SOCKET" --header 'Content-Type: application/x-tar' --upload-file "$archive" \
            --request POST "http://docker/images/create?fromSrc=-&repo=${BASE%:*}&tag=${BASE#*:}" >&2
    fi
    echo "export DOCKER_HOST=unix://$SOCKET"
    echo "export ODCLOUD_TEST_BASE_IMAGE=$BASE"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) say "usage: $0 start|stop"; exit 2 ;;
esac
