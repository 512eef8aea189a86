# shellcheck shell=bash
# Runs and stops the services whose files the follower wrote: run-pryv, stop-pryv and restart-pryv are
# doors into this file. Sourced by them, never run by itself.

# shellcheck source=lib.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"

pryv_usage() {
  case $1 in
    run) say "Usage: $PROGRAM [--root DIR] [SERVICE]..."; say; say "Creates and starts the services of this machine, or only those named." ;;
    stop) say "Usage: $PROGRAM [--root DIR]"; say; say "Stops the services of this machine and removes their containers. Their data stays." ;;
    restart) say "Usage: $PROGRAM [--root DIR]"; say; say "Stops the services of this machine, removes their containers, creates and starts them again." ;;
  esac
  say
  say "  --root DIR   the follower's home (default: \$LOCKSTEP_ROOT, \$PRYV_CONF_ROOT, /var/lib/lockstep)"
  say
  say "The files are those the follower wrote; their folder (paths.dataFolder, default pryv) and the compose"
  say "project (docker.project, default pryv) are read from config-follower/conf/config-follower.json."
}

# pryv run|stop|restart [OPTION]... [SERVICE]...
pryv() {
  local verb=$1 root='' project compose_file
  local -a services=()
  shift
  while (($#)); do
    case $1 in
      --root) root=$(option_value --root "$@"); shift 2 ;;
      --root=*) root=${1#*=}; shift ;;
      -h | --help) pryv_usage "$verb"; exit 0 ;;
      -*) die_usage "'$1' isn't an option of this command" ;;
      *) [[ $verb == run ]] || die_usage "this command takes no services"; services+=("$1"); shift ;;
    esac
  done
  use_root "$root"
  read_follower_config
  find_compose
  COMPOSE+=(-p "$project" -f "$compose_file")

  if [[ $verb != run ]]; then stop_services; fi
  if [[ $verb != stop ]]; then
    "${COMPOSE[@]}" up -d "${services[@]}" ||
      die "Compose couldn't start everything (its own words are above)." "What runs: ${COMPOSE[*]} ps"
    say "Started from $compose_file, project $project."
    say "  what runs  ${COMPOSE[*]} ps"
    say "  stop       $SCRIPTS/stop-pryv --root '$ROOT'"
  fi
}

# Sets project and compose_file in its caller, and DOCKER_HOST if the follower uses another engine.
read_follower_config() {
  local config=$ROOT/config-follower/conf/config-follower.json folder host status=0
  if [[ ! -e $config ]]; then
    die "There is no $config: this machine has no follower." \
      "Write it (docs/files.md shows how), and start the follower: $SCRIPTS/run-config-follower --root '$ROOT'" \
      "or name the right folder: $0 --root DIR"
  fi
  [[ -r $config ]] || die "Can't read $config: it holds a key, so only its owner can." "Try: sudo $0 --root '$ROOT'"
  folder=$(json_value "$config" paths.dataFolder) || status=$?
  ((status != 4)) || die "$config isn't valid JSON." "Correct it, then try again."
  folder=${folder:-pryv}
  [[ $folder == /* ]] || folder=$ROOT/$folder
  compose_file=$folder/pryv.yml

  status=0
  json_value "$config" docker >/dev/null || status=$?
  ((status != 3)) || die "$config says \"docker\": null: on this machine the follower only writes files." \
    "To run services here, declare the engine: \"docker\": {\"host\": \"unix:///var/run/docker.sock\", \"project\": \"pryv\"}"
  project=$(json_value "$config" docker.project) || project=pryv
  if [[ -z ${DOCKER_HOST:-} ]] && host=$(json_value "$config" docker.host); then export DOCKER_HOST=$host; fi

  [[ -e $compose_file ]] || die "There is no $compose_file yet: the follower hasn't written it." \
    "Start the follower: $SCRIPTS/run-config-follower --root '$ROOT'" \
    "If it runs, its log says why: tail '$ROOT/config-follower/log/config-follower.log'"
}

stop_services() {
  local left
  if "${COMPOSE[@]}" down --remove-orphans; then
    say "Stopped; the project $project has no containers left."
    return
  fi
  # docker-compose 1.x fails when it can't remove a network that others are in (the leader's or the
  # follower's container). What was asked for is done all the same when no container is left.
  left=$(docker ps -aq --filter "label=com.docker.compose.project=$project")
  [[ -z $left ]] || die "Compose couldn't stop everything (its own words are above)." "What is left: docker ps -a --filter label=com.docker.compose.project=$project"
  say "Stopped; the project $project has no containers left. A network stays, because other containers are in it."
}
