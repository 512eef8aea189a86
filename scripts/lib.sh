# shellcheck shell=bash
# What the scripts in this folder share. Sourced by them, never run by itself.
# shellcheck disable=SC2034 # BINARY and COMPOSE are read by who sources this.

SCRIPTS=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
REPO=$(dirname -- "$SCRIPTS")
PROGRAM=${0##*/}

say() { printf '%s\n' "$*"; }

note() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# die WHAT [WHY OR NEXT COMMAND]...
die() {
  note "$1"
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

# A command line that can't be understood: exit 2, as the lockstep binary does.
die_usage() {
  note "$1"
  printf '  see: %s --help\n' "$PROGRAM" >&2
  exit 2
}

# The value of the option $1, which must be there: option_value --root "$@"
option_value() {
  if (($# < 3)) || [[ -z $3 ]]; then die_usage "$1 needs a value"; fi
  printf '%s' "$3"
}

whole_seconds() {
  [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || die_usage "$1 takes whole seconds, not '$2'"
}

# --- where things are ---------------------------------------------------------

# Sets ROOT: absolute, with no slash at the end, symlinks kept as they were typed: compose hashes the
# mounts it is given, so every way to start something has to spell them alike.
# Exported under both names because the release's compose files say ${PRYV_CONF_ROOT}.
use_root() {
  ROOT=$(realpath -ms -- "${1:-${LOCKSTEP_ROOT:-${PRYV_CONF_ROOT:-/var/lib/lockstep}}}")
  export LOCKSTEP_ROOT=$ROOT PRYV_CONF_ROOT=$ROOT
}

# Sets BINARY.
find_binary() {
  local candidate
  if [[ -n ${LOCKSTEP_BIN:-} ]]; then
    [[ -f $LOCKSTEP_BIN && -x $LOCKSTEP_BIN ]] ||
      die "LOCKSTEP_BIN is $LOCKSTEP_BIN, and that isn't a program." \
        "Point it at the lockstep binary, or unset it to use the one on PATH."
    BINARY=$(realpath -s -- "$LOCKSTEP_BIN")
    return
  fi
  for candidate in "$(type -P lockstep || true)" "$REPO/target/release/lockstep" "$REPO/target/debug/lockstep"; do
    if [[ -n $candidate && -f $candidate && -x $candidate ]]; then
      BINARY=$(realpath -s -- "$candidate")
      return
    fi
  done
  die "The lockstep binary isn't on PATH, nor built in $REPO/target." \
    "Build it: (cd '$REPO' && cargo build --release -p lockstep)" \
    "or say where it is: LOCKSTEP_BIN=/path/to/lockstep $0 ..."
}

# Sets COMPOSE to the words of the command: the plugin if there is one, else the older docker-compose.
find_compose() {
  if docker compose version >/dev/null 2>&1; then
    COMPOSE=(docker compose)
  elif type -P docker-compose >/dev/null; then
    COMPOSE=(docker-compose)
  else
    die "Neither 'docker compose' nor 'docker-compose' is installed." \
      "On Debian and Ubuntu: sudo apt-get install docker-compose"
  fi
  docker version >/dev/null 2>&1 ||
    die "The Docker engine doesn't answer." \
      "Look at it: docker version" \
      "If it says 'permission denied', use sudo or join the docker group."
  # The release's compose files use $HOSTNAME. Bash knows it but doesn't export it, and without it a
  # compose run from here would differ from the follower's and recreate containers for nothing.
  HOSTNAME=${HOSTNAME:-$(uname -n)}
  export HOSTNAME
}

# --- JSON ---------------------------------------------------------------------

# json_value FILE PATH: prints the string, number or boolean at PATH (names joined by dots, no arrays).
# Returns 0 found; 1 not there; 3 null; 4 not JSON. awk, so that no machine needs a JSON tool for it.
json_value() {
  LC_ALL=C awk -v wanted="$2" '
    function blank() { while (pos <= size && index(" \t\r\n", substr(text, pos, 1))) pos++ }
    function broken() { status = 4; exit status }
    function codepoint(hex,   i, n) {
      for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(hex, i, 1))) - 1
      if (n < 128) return sprintf("%c", n)
      if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
      if (n >= 55296 && n < 57344) return "?"
      return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
    }
    function quoted(   out, c) {
      if (substr(text, pos++, 1) != "\"") broken()
      while (pos <= size) {
        c = substr(text, pos++, 1)
        if (c == "\"") return out
        if (c == "\\") {
          c = substr(text, pos++, 1)
          if (c == "n") c = "\n"
          else if (c == "t") c = "\t"
          else if (c == "r") c = "\r"
          else if (c == "b") c = "\b"
          else if (c == "f") c = "\f"
          else if (c == "u") { c = codepoint(substr(text, pos, 4)); pos += 4 }
        }
        out = out c
      }
      broken()
    }
    function found(path, value, kind) {
      if (path != wanted) return
      if (kind == "null") status = 3
      else { printf "%s", value; status = 0 }
      exit status
    }
    function value(path,   c, name, start, n) {
      blank()
      c = substr(text, pos, 1)
      if (c == "{" || c == "[") {
        pos++
        blank()
        if (substr(text, pos, 1) == (c == "{" ? "}" : "]")) { pos++; return }
        while (1) {
          blank()
          if (c == "{") {
            name = quoted()
            blank()
            if (substr(text, pos++, 1) != ":") broken()
          } else name = n++
          value(path == "" ? name : path "." name)
          blank()
          start = substr(text, pos++, 1)
          if (start == (c == "{" ? "}" : "]")) return
          if (start != ",") broken()
        }
      }
      if (c == "\"") { found(path, quoted(), "string"); return }
      start = pos
      while (pos <= size && index("-+.0123456789aeflnrstuE", substr(text, pos, 1))) pos++
      name = substr(text, start, pos - start)
      if (name == "") broken()
      found(path, name, name == "null" ? "null" : "word")
    }
    { text = text $0 "\n" }
    END { status = 1; pos = 1; size = length(text); value(""); exit status }
  ' <"$1"
}

# --- processes ----------------------------------------------------------------

# Whether the process $1 lives. A zombie doesn't: it only waits for its parent to notice.
alive() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) }
  [[ ${stat:0:1} != [ZX] ]]
}

# Whether process $1 is `... leader --root ROOT` ($2 the word leader or follower). Pids are reused, so
# one that lives is not enough; and the program's own path changes when it is upgraded while it runs.
is_ours() {
  local -a words=()
  alive "$1" || return 1
  mapfile -d '' -t words < <(cat "/proc/$1/cmdline" 2>/dev/null)
  ((${#words[@]} >= 4)) && [[ ${words[-3]} == "$2" && ${words[-2]} == --root && ${words[-1]} == "$ROOT" ]]
}

# Prints the pid of the running leader or follower of this root; fails if it doesn't run.
running_pid() {
  local pid=
  { read -r pid <"$ROOT/config-$1/config-$1.pid"; } 2>/dev/null || [[ -n $pid ]] || return 1
  [[ $pid =~ ^[1-9][0-9]*$ ]] && is_ours "$pid" "$1" && printf '%s' "$pid"
}
