# shellcheck shell=bash
# Installs what the demo and the tests need on Debian, saying so first, and
# makes sure a Docker engine answers. Sourced after lib.sh.

# nginx and dockerd lie where an ordinary user's PATH may not look.
PATH=$PATH:/usr/sbin:/sbin

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# need_packages PACKAGE:FILE... : a package is missing when the file it brings is.
need_packages() {
  local pair missing=()
  for pair in "$@"; do
    [[ -e ${pair#*:} ]] || type -P "${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]} (apt-get install --no-install-recommends ${missing[*]})"
  type -P apt-get >/dev/null || die "there is no apt-get here" "Install by hand: ${missing[*]}"
  as_root apt-get update -qq
  # RUNLEVEL=1: a fresh nginx or redis must not start serving on this machine.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Leaves a running engine alone; starts one where none answers.
need_engine() {
  docker info >/dev/null 2>&1 && return 0
  if [[ -d /run/systemd/system ]]; then
    say "starting the Docker engine (systemctl start docker)"
    as_root systemctl start docker
  else
    say "starting the Docker engine (dockerd, log in /var/log/dockerd.log)"
    as_root sh -c 'setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &'
  fi
  local tries
  for ((tries = 0; tries < 60; tries++)); do
    docker info >/dev/null 2>&1 && return 0
    sleep 0.5
  done
  die "no Docker engine answers" "See /var/log/dockerd.log or journalctl -u docker, and docker info."
}

need_cargo() {
  type -P cargo >/dev/null || die "there is no cargo here" "Install Rust: https://rustup.rs, then open a new shell."
}
