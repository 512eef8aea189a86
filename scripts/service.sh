# shellcheck shell=bash
# Runs and stops the leader and the follower: the six scripts (run|stop|restart)-config-(leader|follower)
# are doors into this file. Sourced by them, never run by itself.

# shellcheck source=lib.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"

service_usage() {
  local verb=$1 role=$2
  case $verb in
    run) say "Usage: $PROGRAM [--root DIR] [--timeout SECONDS] [--foreground] [--docker]" ;;
    stop) say "Usage: $PROGRAM [--root DIR] [--timeout SECONDS] [--force] [--docker]" ;;
    restart) say "Usage: $PROGRAM [--root DIR] [--timeout SECONDS] [--force] [--foreground] [--docker]" ;;
  esac
  say
  case $verb in
    run) say "Starts the $role in the background and waits until it is ready. Harmless if it already runs." ;;
    stop) say "Stops the $role and waits until it has ended. Harmless if it doesn't run." ;;
    restart) say "Stops the $role if it runs, then starts it and waits until it is ready." ;;
  esac
  say
  say "  --root DIR         its home (default: \$LOCKSTEP_ROOT, \$PRYV_CONF_ROOT, /var/lib/lockstep)"
  say "  --timeout SECONDS  how long to wait at most (default: 30)"
  [[ $verb == run ]] || say "  --force            if it hasn't ended by then, kill it"
  [[ $verb == stop ]] || say "  --foreground       stay attached: output here, Ctrl-C stops it"
  say "  --docker           in a container, by deploy/config-$role.yml"
  [[ $verb == run ]] || say "                     (Docker itself kills what hasn't ended when the timeout is over)"
  say
  say "The binary is \$LOCKSTEP_BIN, else lockstep on PATH, else the one built in this repository."
  say "Exit codes: 0 done, 1 it failed, 2 wrong usage."
}

# service run|stop|restart leader|follower [OPTION]...
service() {
  local verb=$1 role=$2 root='' timeout=30 force=false foreground=false docker=false
  shift 2
  while (($#)); do
    case $1 in
      --root) root=$(option_value --root "$@"); shift 2 ;;
      --root=*) root=${1#*=}; shift ;;
      --timeout) timeout=$(option_value --timeout "$@"); shift 2 ;;
      --timeout=*) timeout=${1#*=}; shift ;;
      --force) [[ $verb != run ]] || die_usage "--force is for stopping"; force=true; shift ;;
      --foreground) [[ $verb != stop ]] || die_usage "--foreground is for running"; foreground=true; shift ;;
      --docker) docker=true; shift ;;
      -h | --help) service_usage "$verb" "$role"; exit 0 ;;
      *) die_usage "'$1' isn't an option of this command" ;;
    esac
  done
  whole_seconds --timeout "$timeout"
  use_root "$root"

  if [[ $verb != run ]]; then
    if $docker; then stop_container "$role" "$timeout" "$force"; else stop_native "$role" "$timeout" "$force"; fi
  fi
  if [[ $verb != stop ]]; then
    if $docker; then run_container "$role" "$timeout" "$foreground"; else run_native "$role" "$timeout" "$foreground"; fi
  fi
}

# Two people typing run at once must not start two: whoever holds the lock on the folder acts alone.
# Descriptor 9 is closed for what is started, or the lock would live as long as the leader does.
lock_home() {
  exec 9<"$1"
  flock -w "$2" 9 || die "Another command is starting or stopping it at this moment." "Try again: $0 --root '$ROOT'"
}

need_root() {
  [[ ! -d $ROOT ]] || return 0
  if [[ $1 == leader ]]; then
    die "There is no $ROOT: nothing is set up there." "Lay out a leader's home there: docs/files.md shows how," "or name the right folder: $0 --root DIR"
  fi
  die "There is no $ROOT: nothing is set up there." "Lay out a follower's home there: docs/files.md shows how," "or name the right folder: $0 --root DIR"
}

# --- as a process -------------------------------------------------------------

run_native() {
  local role=$1 timeout=$2 foreground=$3
  local home=$ROOT/config-$role log=$ROOT/config-$role/log/config-$role.log pid_file=$ROOT/config-$role/config-$role.pid
  local pid offset deadline ready=''
  find_binary
  need_root "$role"
  (umask 027 && mkdir -p -- "$home/log") ||
    die "Can't create $home/log." "Run this as the owner of $ROOT: sudo $0 --root '$ROOT'"
  lock_home "$home" "$timeout"

  if pid=$(running_pid "$role"); then
    say "The $role is already running, pid $pid."
    say "  log   $log"
    say "  stop  $SCRIPTS/stop-config-$role --root '$ROOT'"
    return
  fi
  [[ -w $home ]] || die "Can't write in $home." "Run this as its owner: sudo $0 --root '$ROOT'"
  service_manager_has_it "$role" && note "careful: the systemd service lockstep-$role is active as well"

  if $foreground; then
    printf '%s\n' "$$" >"$pid_file"
    exec "$BINARY" "$role" --root "$ROOT" 9<&-
  fi

  # The log may be what an operator sends to somebody else: readable by the group, not by everyone.
  [[ -e $log ]] || (umask 027 && : >"$log")
  offset=$(stat -c %s -- "$log")
  # A session of its own: no terminal can hang up on it. In a script this doesn't fork, so $! is its pid.
  setsid "$BINARY" "$role" --root "$ROOT" </dev/null >>"$log" 2>&1 9<&- &
  pid=$!
  printf '%s\n' "$pid" >"$pid_file"

  deadline=$((SECONDS + timeout))
  while :; do
    ready=$(tail -c "+$((offset + 1))" -- "$log" | sed -n 's/^ready \(https\{0,1\}:\/\/[^[:space:]]*\).*$/\1/p' | tail -n 1)
    [[ -z $ready ]] || break
    if ! alive "$pid"; then
      rm -f -- "$pid_file"
      if (($(stat -c %s -- "$log") > offset)); then
        note "The $role ended before it was ready. The end of its log:"
        tail -c "+$((offset + 1))" -- "$log" | tail -n 20 | sed 's/^/  | /' >&2
        printf '  the whole log: %s\n' "$log" >&2
      else
        note "The $role ended before it was ready, and its log $log got no line of it: is the disk full (df -h)?"
      fi
      printf '  look for the cause: %s doctor --root %q\n' "$BINARY" "$ROOT" >&2
      [[ $role != leader ]] || printf '  check the files: %s validate --root %q\n' "$BINARY" "$ROOT" >&2
      exit 1
    fi
    if ((SECONDS >= deadline)); then
      die "The $role runs (pid $pid) but wasn't ready after $timeout s." \
        "Look: tail '$log'" \
        "Stop it: $SCRIPTS/stop-config-$role --root '$ROOT', or give it longer: --timeout 120"
    fi
    sleep 0.05
  done

  say "The $role is ready at $ready, pid $pid."
  say "  config  $home/conf/config-$role.json"
  say "  log     $log"
  say "  pid     $pid_file"
  say "  stop    $SCRIPTS/stop-config-$role --root '$ROOT'"
}

stop_native() {
  local role=$1 timeout=$2 force=$3 pid deadline
  local home=$ROOT/config-$role pid_file=$ROOT/config-$role/config-$role.pid
  if [[ ! -d $home ]]; then
    say "The $role isn't running: there is no $home."
    return
  fi
  lock_home "$home" "$timeout"
  if ! pid=$(running_pid "$role"); then
    rm -f -- "$pid_file" 2>/dev/null || true
    say "The $role isn't running."
    if service_manager_has_it "$role"; then say "  (not from here: systemd runs it; stop that with: systemctl stop lockstep-$role)"; fi
    unlock_home
    return
  fi

  kill -TERM "$pid" 2>/dev/null || ! is_ours "$pid" "$role" ||
    die "Can't stop the $role, pid $pid: it belongs to somebody else." "Try: sudo $0 --root '$ROOT'"
  deadline=$((SECONDS + timeout))
  while is_ours "$pid" "$role"; do
    if ((SECONDS >= deadline)); then
      $force || die "The $role, pid $pid, was asked to end and hasn't within $timeout s." \
        "It may be finishing what it has begun: look at $home/log/config-$role.log" \
        "Wait longer: $0 --root '$ROOT' --timeout 300, or kill it: $0 --root '$ROOT' --force"
      note "it hasn't ended within $timeout s: killing pid $pid"
      kill -KILL "$pid" 2>/dev/null || true
      force=false
      deadline=$((SECONDS + 10))
    fi
    sleep 0.05
  done
  rm -f -- "$pid_file"
  say "The $role has stopped (it was pid $pid)."
  unlock_home
}

unlock_home() { exec 9<&-; }

service_manager_has_it() {
  type -P systemctl >/dev/null && systemctl is-active --quiet "lockstep-$1" 2>/dev/null
}

# --- as a container -----------------------------------------------------------

# Sets FILES to the words that name the compose project and its files.
compose_files() {
  FILES=(-p "config-$1" -f "$REPO/deploy/config-$1.yml")
  [[ -f $REPO/deploy/config-$1.yml ]] || die "There is no $REPO/deploy/config-$1.yml." "Use the scripts from a complete checkout."
}

run_container() {
  local role=$1 timeout=$2 foreground=$3
  local image=${LOCKSTEP_IMAGE:-lockstep:latest} name=pryvio_config_$role
  local state ended deadline at
  local -a since
  find_compose
  compose_files "$role"
  docker image inspect "$image" >/dev/null 2>&1 ||
    die "There is no image $image on this machine." "Build it: $REPO/deploy/build-image" "or name another one: LOCKSTEP_IMAGE=NAME:TAG $0 --docker"
  need_root "$role"
  [[ $role == leader ]] || follower_container_tools

  if $foreground; then exec "${COMPOSE[@]}" "${FILES[@]}" up; fi
  "${COMPOSE[@]}" "${FILES[@]}" up -d

  deadline=$((SECONDS + timeout))
  while :; do
    read -r state ended < <(docker inspect -f '{{.State.Status}} {{.State.FinishedAt}}' "$name")
    # Since the run before this one ended, if there was one. (StartedAt won't do: a quick program has
    # printed its line before the engine notes the time.)
    since=(--since "$ended")
    [[ $ended != 0001-* ]] || since=()
    if [[ $state == running ]] && docker logs "${since[@]}" "$name" 2>/dev/null | grep '^ready http' >/dev/null; then break; fi
    if [[ $state == exited || $state == restarting || $state == dead ]] || ((SECONDS >= deadline)); then
      note "The container $name is $state, and the $role isn't ready. The end of its log:"
      docker logs --tail 20 "$name" 2>&1 | sed 's/^/  | /' >&2
      printf '  the whole log: docker logs %s\n  stop it: %s/stop-config-%s --docker\n' "$name" "$SCRIPTS" "$role" >&2
      exit 1
    fi
    sleep 0.1
  done
  at=$(docker port "$name" | sed -n '1s/.* -> //p')
  say "The $role is ready in the container $name${at:+, published at http://$at}."
  say "  config  $ROOT/config-$role/conf/config-$role.json"
  say "  log     docker logs $name"
  say "  stop    $SCRIPTS/stop-config-$role --docker --root '$ROOT'"
}

# Stops and removes the container, never the networks: other containers live in them.
stop_container() {
  local role=$1 timeout=$2 force=$3 name=pryvio_config_$1
  find_compose
  compose_files "$role"
  if [[ -z $(docker ps -aq --filter "name=^/${name}$") ]]; then
    say "The $role isn't running: there is no container $name."
    return
  fi
  if $force; then timeout=0; fi
  "${COMPOSE[@]}" "${FILES[@]}" stop -t "$timeout"
  "${COMPOSE[@]}" "${FILES[@]}" rm -f
  say "The $role has stopped, and its container $name is removed."
}

# The image holds lockstep alone. To recreate containers the follower needs docker and compose: the
# host's are lent to it when they are static programs, which run in an image without libraries.
follower_container_tools() {
  local config=$ROOT/config-follower/conf/config-follower.json cli plugin url
  url=$(json_value "$config" leader.url 2>/dev/null) || url=
  if [[ $url =~ ^https?://(127\.|localhost|\[::1\]) ]]; then
    note "careful: leader.url in $config is $url, and in a container that is the container itself."
    printf '  If the leader runs in a container here, use http://pryvio_config_leader:7000\n' >&2
  fi
  cli=$(type -P docker)
  cli=$(readlink -f -- "$cli")
  plugin=$(compose_plugin) || plugin=
  if [[ -n $plugin ]] && is_static "$cli" && is_static "$plugin"; then
    export DOCKER_CLI=$cli DOCKER_COMPOSE_PLUGIN=$plugin
    # Where the registry's credentials are, for images that aren't public.
    export DOCKER_CONFIG=${DOCKER_CONFIG:-${HOME:-/root}/.docker}
    (umask 077 && mkdir -p -- "$DOCKER_CONFIG")
    FILES+=(-f "$REPO/deploy/config-follower.tools.yml")
    return
  fi
  note "careful: this machine has no static docker and compose plugin to lend to the container."
  printf '  The follower will signal and restart containers but not recreate them (new images, ports, mounts).\n' >&2
  printf '  Run it without --docker, or see "The follower in a container" in deploy/README.md.\n' >&2
}

compose_plugin() {
  local folder
  for folder in "${DOCKER_CONFIG:-${HOME:-/root}/.docker}/cli-plugins" /usr/local/lib/docker/cli-plugins \
    /usr/local/libexec/docker/cli-plugins /usr/lib/docker/cli-plugins /usr/libexec/docker/cli-plugins; do
    if [[ -x $folder/docker-compose ]]; then
      readlink -f -- "$folder/docker-compose"
      return
    fi
  done
  return 1
}

# A program that needs a dynamic loader names it near its beginning (ELF's PT_INTERP).
is_static() {
  local magic
  IFS= read -r -n 4 -d '' magic < <(head -c 4 -- "$1") || true
  [[ $magic == $'\x7fELF' ]] && ! head -c 4096 -- "$1" | grep -aE '/ld(-linux|-musl|64|\.so)' >/dev/null
}
