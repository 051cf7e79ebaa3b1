# How an engine is installed, for the scripts that run it. To be sourced in this folder.
# shellcheck shell=bash

CACHE=${WINDROW_CACHE:-$HOME/.cache/windrow}/side-by-side

# The Python packages and jars that the engine's folder lists. The marker is a copy of the lists, so
# that a change of them installs anew.
install() { # ENGINE
  local folder=$CACHE/$1 lists=("$1/requirements.txt")
  [ ! -e "$1/pom.xml" ] || lists+=("$1/pom.xml")
  ! cat "${lists[@]}" | cmp -s - "$folder/complete" || return 0
  echo "installing $1" >&2
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 -m venv "$folder/venv" >&2 &&
    "$folder/venv/bin/pip" install -q --disable-pip-version-check -r "$1/requirements.txt" >&2 || return 1
  [ ! -e "$1/pom.xml" ] || mvn -B -q -f "$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$folder/libs" >&2 || return 1
  cat "${lists[@]}" >"$folder/complete"
}
