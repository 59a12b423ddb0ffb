#!/usr/bin/env bash
# Stand-ins for the images that docker-compose.yml pulls, on a Debian machine that reaches Debian's packages and PyPI
# but no registry of images. What they are is real: Debian's Python, Redis and PostgreSQL; the platform's own embedded
# S3 server and trace store. They say nothing about the official images themselves.
# Writes the settings that put them in the place of the real ones to stdout, NAME=VALUE. Needs root, and an engine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
work=${DRP_STANDINS_DIR:-/var/tmp/drp-standins}
name() { echo "drp-standin/$1:$release"; }
mkdir -p "$work"

quiet() { "$@" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }; }
# The classic builder, which every engine has. It says of itself, on stderr, that it is old.
build() { quiet env DOCKER_BUILDKIT=0 docker build --network=host "$@"; }

base() {  # a minimal Debian that trusts what this machine trusts, so that packages can be had inside a build, too
    local image root
    image=$(name python) root=$work/root
    docker image inspect "$image" >/dev/null 2>&1 && return
    if [ ! -e "$work/complete" ]; then
        rm -rf "$root"
        quiet debootstrap --variant=minbase --include=ca-certificates,curl,gosu,python3,python3-pip,python3-venv "$release" "$root"
        rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/lib/python3.*/EXTERNALLY-MANAGED
        ln -sf python3 "$root/usr/bin/python"
        touch "$work/complete"
    fi
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    local trust=/etc/ssl/certs/ca-certificates.crt
    tar -C "$root" -c . | docker import --change "ENV PIP_CERT=$trust SSL_CERT_FILE=$trust" - "$image" >/dev/null
}

platform() {  # the build stage of our own image, for the servers that are ours
    build --target build --build-arg PYTHON_IMAGE="$(name python)" -t "$(name platform)" -f "$top/deploy/Dockerfile" "$top"
}

base
build --build-arg BASE="$(name python)" -t "$(name redis)" "$here/redis"
build --build-arg BASE="$(name python)" -t "$(name postgres)" "$here/postgres"
platform
build --build-arg BASE="$(name platform)" --build-arg PROGRAM=s3.py -t "$(name s3)" "$here/ours"
build --build-arg BASE="$(name platform)" --build-arg PROGRAM=jaeger.py -t "$(name jaeger)" "$here/ours"

cat <<END
DRP_BUILD_NETWORK=host
DRP_PYTHON_IMAGE=$(name python)
DRP_REDIS_IMAGE=$(name redis)
DRP_POSTGRES_IMAGE=$(name postgres)
DRP_RUSTFS_IMAGE=$(name s3)
DRP_MINIO_IMAGE=$(name s3)
DRP_JAEGER_IMAGE=$(name jaeger)
END
