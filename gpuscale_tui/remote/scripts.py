"""The shell programs that run on a machine: constant texts for any POSIX shell, given their data on stdin.

They travel as `exec /bin/sh -c 'TEXT' ...` through whatever login shell the account has, hence no single quote and no
backslash may stand in them (`compact` checks); csh, which would read `$!` as history, is not served. A fork costs half
a millisecond, so what a builtin can do is done by a builtin.

An attempt's directory on the machine:

    work/ checkpoints/ outputs/   the job's own
    output               stdout and stderr of the command, as written
    claim                exists once the attempt was started; made with O_EXCL, so exactly one start wins
    runner               "BOOT PID BORN" of the runner; BORN is the start time from /proc, "-" where there is none
    job                  "PID BORN" of the command, which leads a process group of its own
    manner               "SIGNAL GRACE": how the job asked to be ended; TERM where its signal could not reach it
    ending               seconds the group has between that signal and KILL; exists once it is being ended
    told                 mark: the signal was sent; a second one could break off what the first has begun
    killed               mark: something of the group did not end by itself and was killed, in the middle of anything
    timed, stopped       marks: the runtime limit was reached; someone called stop
    lapsed               mark: that someone was the machine's own lease (see `lease`)
    exit                 "CODE TIMED STOPPED", renamed into place when nothing of the group lives any more; STOPPED is
                         2 when the lease did it
    followed             mark: another channel streams the output, the starting one need not
"""

from __future__ import annotations

BEGIN = b"gpuscale:begin\n"
"""First line on stdout of each script; what a talkative login shell printed before it is dropped."""

FIRST_BYTES = 65_536
"""How much output the starting channel returns by itself; the rest of a longer one is fetched."""

_FORBIDDEN = ("'", "\\")


def compact(text: str) -> str:
    """The script without comment lines and indentation; ValueError when some login shell would interpret it."""
    lines = [line.strip() for line in text.splitlines()]
    script = "\n".join(line for line in lines if line and not line.startswith("# "))
    if any(character in script for character in _FORBIDDEN):
        raise ValueError("a remote script holds a character that some login shell would interpret")
    return script


START_LINE = "echo gpuscale:begin"

COMMON = """
umask 077
say() { echo "gs:$*" >&2; }
# sleeps a tenth of a second, or a second where sleep knows only whole ones; sets step to the tenths
pause() { step=1; sleep 0.1 2>/dev/null || { step=10; sleep 1; }; }
# sets kept to a sum: 1 when something lies in checkpoints, 2 when in outputs, 4 when something was killed
keeps() {
  kept=0
  [ -e killed ] && kept=4
  for left in checkpoints/* checkpoints/.[!.]* checkpoints/..?*; do
    if [ -e "$left" ] || [ -L "$left" ]; then kept=$((kept+1)); break; fi
  done
  for left in outputs/* outputs/.[!.]* outputs/..?*; do
    if [ -e "$left" ] || [ -L "$left" ]; then kept=$((kept+2)); break; fi
  done
}
enter() { cd && cd "./$1/$2" 2>/dev/null; }
# sets state, group and born from what /proc says of process $1, whose name may hold anything, even newlines
look() {
  state= group= born= entry=
  [ -r "/proc/$1/stat" ] || return 1
  while read -r part; do entry="$entry $part"; done 2>/dev/null < "/proc/$1/stat"
  [ -n "$entry" ] || return 1
  set -- ${entry##*") "}
  state=$1 group=$3 born=${20}
}
# whether process $1 is alive and is the one born at $2, not a stranger that got its number
same() {
  if [ "$2" = - ]; then kill -0 "$1" 2>/dev/null; return; fi
  look "$1" && [ "$born" = "$2" ] && [ "$state" != Z ] && [ "$state" != X ]
}
# whether anything of process group $1 is alive; a zombie is not
members() {
  if [ -r /proc/self/stat ]; then :; else kill -0 "-$1" 2>/dev/null; return; fi
  for entries in /proc/[0-9]*; do
    look "${entries#/proc/}" && [ "$group" = "$1" ] && [ "$state" != Z ] && [ "$state" != X ] && return 0
  done
  return 1
}
# sends signal $1 to the group led by process $2 born at $3, never to a stranger that got the number
strike() {
  if look "$2" && [ "$3" != - ] && [ "$born" != "$3" ]; then return 1; fi
  kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null
}
"""

STATE = """
# sets runner, rborn, job, jborn to what the runner wrote (it may have begun this instant); false after a reboot
known() {
  tries=0
  until read -r boot runner rborn 2>/dev/null < runner && [ -n "$rborn" ]; do
    [ "$tries" -lt 20 ] || return 1
    pause
    tries=$((tries+step))
  done
  job= jborn=
  [ -e job ] && read -r job jborn < job
  now=-
  [ -r /proc/sys/kernel/random/boot_id ] && read -r now < /proc/sys/kernel/random/boot_id
  [ "$boot" = "$now" ]
}
# whether the command, or anything of its group, is alive
works() {
  [ -n "$jborn" ] || return 1
  same "$job" "$jborn" && return 0
  if look "$job" && [ "$born" != "$jborn" ]; then return 1; fi
  members "$job"
}
alive() { known && { same "$runner" "$rborn" || works; }; }
# sets verdict to none, exited, running or vanished; a runner that ended meanwhile has left its exit record, and who
# was stopped without a runner to record it was killed
judge() {
  if [ -e claim ]; then :; else verdict=none; return; fi
  verdict=exited
  [ -e exit ] && return
  if alive; then verdict=running; return; fi
  [ -e exit ] || [ -e stopped ] || verdict=vanished
}
report() {
  code=- timed=- stopped=- total=0
  if [ "$verdict" = exited ]; then
    code=137 timed=0 stopped=1
    [ -e timed ] && timed=1
    [ -e lapsed ] && stopped=2
    if [ -e exit ]; then read -r code timed stopped < exit; else : > killed; fi
  fi
  if [ -e output ]; then total=$(wc -c < output); total=${total##* }; fi
  keeps
  say "state $verdict $code $timed $stopped $total $kept"
}
"""

PREPARE = compact(
    f"""
{START_LINE}
{COMMON}
read -r base name
cd && mkdir -p "./$base/$name" && cd "./$base" && chmod 700 . "./$name" && cd "./$name" &&
mkdir -p work checkpoints outputs
"""
)
"""stdin: `BASE NAME`."""

START = compact(
    f"""
{START_LINE}
{COMMON}
trap : PIPE
fail() {{ say "$1"; exit 1; }}
read -r base name lines limit grace signal || exit 1
if enter "$base" "$name"; then :; else
  cd && mkdir -p "./$base/$name/work" && enter "$base" "$name" || fail unwritable
fi
if [ -e claim ]; then say claimed; exit 0; fi
if [ -d work ] && [ -d checkpoints ] && [ -d outputs ]; then :; else
  mkdir -p work checkpoints outputs || fail unwritable
fi
nl="
"
# the launch arrives whole before anything is claimed: a connection cut in between starts nothing
while [ "$lines" -gt 0 ]; do
  IFS= read -r line || exit 1
  printf %s "$line$nl" || fail unwritable
  lines=$((lines-1))
done > "launch.$$"
: >> output
detach=
IFS=:
for place in $PATH; do
  if [ -x "$place/setsid" ]; then detach=$place/setsid; break; fi
done
unset IFS
if [ -z "$detach" ]; then
  set -m 2>/dev/null
  case $- in (*m*) ;; (*) fail unable;; esac
fi
set -- "$1" -c "$2" gpuscale-runner "$1" "launch.$$" "$limit" "$grace" "$detach" "$3" "${{signal:-TERM}}"
${{detach:+"$detach"}} "$@" 4>&2 </dev/null >/dev/null 2>&1 &
child=$!
[ -n "$detach" ] || set +m
wait "$child"
case $? in (3) rm -f "launch.$$"; say claimed; exit 0;; (4) fail unwritable;; esac
if [ -e exit ]; then read -r code timed stopped < exit; else say lost; exit 0; fi
keeps
say "exit $code $timed $stopped $kept"
if [ -e followed ]; then exit 5; fi
if [ -s output ]; then exec dd if=output bs={FIRST_BYTES} count=1 2>/dev/null; fi
exit 0
"""
)
"""$1 the shell, $2 RUNNER, $3 WATCHDOG; stdin: `BASE NAME LINES LIMIT GRACE SIGNAL`, then the lines of the launch.

Says `started` or `claimed` (it was started before), then `exit CODE TIMED STOPPED KEPT` or `lost` (the runner died), or
`unwritable`, `unable`. Ends with 0 after the first FIRST_BYTES of output; with 5 when another channel follows them.
"""

RUNNER = compact(
    f"""
{COMMON}
# a write to a channel that is gone must not end the runner; caught, not ignored: the command starts with defaults
trap : HUP PIPE
set -C
if echo claimed > claim; then set +C; elif [ -e claim ]; then exit 3; else exit 4; fi
boot=- rborn=- jborn=- watch=
[ -r /proc/sys/kernel/random/boot_id ] && read -r boot < /proc/sys/kernel/random/boot_id
look "$$" && rborn=$born
echo "$boot $$ $rborn" > runner && echo "$7 $4" > manner || exit 4
# room for the exit record, taken now in case the command fills the disk
echo "0                             " > exit.new || exit 4
[ -n "$5" ] || set -m
(
  told=$7 grace=$4
  set -- "$PWD" "$2" ${{5:+"$5" --}}
  # shells ignore these two in what they run in the background, and what is ignored stays so in the command
  case $told in (INT|QUIT)
    d="$"
    if env "--default-signal=$told" true; then set -- "$@" env "--default-signal=$told"
    elif perl -e 1; then set -- "$@" perl -e "${{d}}SIG{{$told}}=q(DEFAULT);exec @ARGV" --
    else echo "TERM $grace" > manner
    fi;;
  esac 2>/dev/null
  . "./$2"
) </dev/null >>output 2>&1 4>&- &
job=$!
look "$job" && jborn=$born
echo "$job $jborn" > job
if [ "$3" != 0 ]; then
  ${{5:+"$5" --}} "$1" -c "$6" gpuscale-watchdog "$3" "$4" "$job" "$jborn" "$7" </dev/null 4>&- &
  watch=$!
fi
[ -n "$5" ] || set +m
echo gs:started >&4
exec 4>&-
wait "$job"
code=$?
# a caught signal ends a wait early
while [ "$code" -gt 128 ] && same "$job" "$jborn"; do
  wait "$job"
  code=$?
done
if [ -n "$watch" ]; then
  kill -KILL "$watch"
  kill -KILL "-$watch"
fi
if kill -0 "-$job"; then
  spent=0 grace=2
  if [ -e ending ]; then read -r grace < ending; else kill -TERM "-$job"; fi
  while [ "$spent" -lt "$((grace*10))" ] && members "$job"; do
    pause
    spent=$((spent+step))
  done
  if members "$job"; then : > killed; fi
  kill -KILL "-$job"
fi
timed=0 stopped=0
[ -e timed ] && timed=1
[ -e stopped ] && stopped=1
[ -e lapsed ] && stopped=2
echo "$code $timed $stopped" 1<>exit.new
mv -f exit.new exit
"""
)
"""$1 the shell, $2 the launch file, $3 limit (0 none), $4 grace, $5 setsid's path or empty, $6 WATCHDOG, $7 signal.

Leads a group of its own, says `started` on descriptor 4. Ends with 3 when another start has the claim, 4 when the
disk takes nothing. Not immune to TERM: when the machine goes down, nothing may pass for the command's own exit.
"""

WATCHDOG = compact(
    f"""
{COMMON}
sleep "$1"
same "$3" "$4" || members "$3" || exit 0
: > timed
echo "$2" > ending
signal=$5
[ -e manner ] && read -r signal least < manner
[ -e told ] || strike "$signal" "$3" "$4"
: > told
sleep "$2"
: > killed
strike KILL "$3" "$4"
"""
)
"""$1 limit, $2 grace in seconds, $3 PID and $4 BORN of the command, $5 the signal. The runner ends it when the command
ends."""

FOLLOW = compact(
    f"""
{START_LINE}
{COMMON}
{STATE}
trap : PIPE
read -r base name offset || exit 1
if enter "$base" "$name"; then judge; else verdict=none; fi
if [ "$verdict" = none ]; then report; exit 0; fi
: > followed
tail -c "+$((offset+1))" -f output 2>/dev/null </dev/null &
tail=$!
while :; do
  if [ "$verdict" != running ]; then kill "$tail"; wait "$tail"; report; exit 0; fi
  say running
  if read -r tick; then judge; else kill "$tail"; exit 0; fi
done
"""
)
"""stdin: `BASE NAME OFFSET`, then a line for each answer wanted. Says `running` or, at the end, the state; stdout is
the output from OFFSET on. When stdin ends (the connection is gone) everything here ends."""

FETCH = compact(
    f"""
{START_LINE}
{COMMON}
read -r base name offset || exit 1
enter "$base" "$name" || exit 1
exec tail -c "+$((offset+1))" output
"""
)
"""stdin: `BASE NAME OFFSET`; stdout: the output from there to its present end."""

STATUS = compact(
    f"""
{START_LINE}
{COMMON}
{STATE}
read -r base name || exit 1
if enter "$base" "$name"; then judge; else verdict=none; fi
report
"""
)
"""stdin: `BASE NAME`. Says `state VERDICT CODE TIMED STOPPED SIZE KEPT`, where `-` stands for what is not known
and KEPT is a sum: 1 when something lies in checkpoints, 2 when in outputs, 4 when something had to be killed."""

STOP = compact(
    f"""
{START_LINE}
{COMMON}
{STATE}
record() {{ echo "$1" > exit.other && mv -f exit.other exit; }}
# sends the signal, unless somebody did; false when it did not reach the group
tell() {{
  echo "$grace" > ending
  [ -e told ] || strike "$signal" "$job" "$jborn" && : > told
}}
read -r base name grace signal || exit 1
by=1
if enter "$base" "$name"; then :; else
  cd && mkdir -p "./$base/$name" && enter "$base" "$name" || {{ say unwritable; exit 1; }}
fi
: >> output
: > stopped
[ -e lapsed ] && by=2
own= least=$grace
[ -e manner ] && read -r own least < manner
[ -n "$signal" ] || grace=$least
signal=${{own:-${{signal:-TERM}}}}
set -C
# an attempt that was never started is claimed, so that a start still under way cannot run it after this
if echo claimed 2>/dev/null > claim; then record "143 0 $by"; fi
set +C
spent=0 sent=
until [ -e exit ]; do
  if alive; then
    if [ -z "$jborn" ]; then :
    elif [ -z "$sent" ] && tell; then sent=1
    elif [ "$spent" -ge "$((grace*10))" ]; then
      : > killed
      strike KILL "$job" "$jborn"
    fi
  elif [ -e exit ]; then break
  else
    timed=0
    [ -e timed ] && timed=1
    : > killed
    record "137 $timed $by"
    break
  fi
  [ "$spent" -lt "$((grace*10+150))" ] || {{ say stuck; exit 1; }}
  pause
  spent=$((spent+step))
done
verdict=exited
report
"""
)
"""stdin: `BASE NAME GRACE SIGNAL`. The signal to the group, KILL after GRACE seconds, then the state; or `stuck`.
The signal is the one that stands in `manner`; without SIGNAL the grace is, too."""

REMOVE = compact(
    f"""
{START_LINE}
{COMMON}
{STATE}
read -r base || exit 1
cd && cd "./$base" 2>/dev/null || exit 0
set --
while read -r name; do
  cd "./$name" 2>/dev/null || continue
  judge
  cd ..
  if [ "$verdict" = running ]; then say "running $name"; else set -- "$@" "$name"; fi
done
if [ "$#" -gt 0 ]; then mkdir ".gone.$$" && mv -f "$@" ".gone.$$" || exit 1; fi
for left in .gone.*; do
  if [ -d "$left" ]; then :; else continue; fi
  rm -rf "./$left" 2>/dev/null || {{ chmod -R u+rwx "./$left"; rm -rf "./$left"; }} || exit 1
done
exit 0
"""
)
"""stdin: `BASE`, then names, one a line. Says `running NAME` for each that it leaves. Moves all away first: a removal
cut short leaves nothing that looks like an attempt never started."""

ENDED = compact(
    f"""
{START_LINE}
read -r base
cd && cd "./$base" 2>/dev/null || exit 0
for name in *; do
  if [ -e "$name/exit" ]; then echo "$name"; fi
done
exit 0
"""
)
"""stdin: `BASE`; stdout: the names of the attempts that have ended and are still there."""
