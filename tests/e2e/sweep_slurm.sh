#!/bin/bash
# A sweep as a job array on a real Slurm of one node, started here: a job that dies, a node that vanishes, and Slurm
# that is not there or does not answer.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/shared/runs.db
mkdir "$base/shared"

# A folder in which every command is but Slurm's.
mkdir "$base/bare"
for program in sh true env; do ln -s "$(command -v $program)" "$base/bare/"; done
run env PATH="$base/bare" "$KINOWATT" sweep --launcher slurm --axis t=1,2 -- true '{t}'
expect_rc 3
expect_err "^kinowatt: squeue is not there: --launcher slurm needs Slurm's commands; run this where jobs are submitted$"
expect_err_lines 1
expect test ! -e "$KINOWATT_STORE"
ok "without Slurm's commands it is said"

missing=
for program in munged slurmctld slurmd sbatch squeue scontrol scancel; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || missing+=" $program"
done
why=${missing:+no$missing: tools/deps.sh --dev installs them}
[[ $(id -u) == 0 ]] || why="slurmd needs root"
if [[ $why ]]; then
    skip "a sweep on Slurm" "$why"
    exit 0
fi

# ---- The cluster ------------------------------------------------------------------------------------------

PATH=$PATH:/usr/sbin
cluster=$base/slurm
export SLURM_CONF=$cluster/slurm.conf
mkdir "$cluster" "$cluster/state" "$cluster/spool"

free_port()
{
    local port
    while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

write_conf() # NODE
{
    cat <<END
ClusterName=kinowatt
SlurmctldHost=$1(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthInfo=socket=$cluster/munge.socket
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerType=sched/builtin
SwitchType=switch/none
MpiDefault=none
JobRequeue=0
KillWait=1
ReturnToService=2
SlurmdParameters=config_overrides
MessageTimeout=2
NodeName=$1 NodeAddr=127.0.0.1 CPUs=2
PartitionName=main Nodes=$1 Default=YES
END
}

stop() # NAME
{
    local pid
    pid=$(cat "$cluster/$1.pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null
    for ((i = 0; i < 100; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
}

# Processes of jobs have the cluster's folder in their environment.
kill_jobs()
{
    local pid
    for pid in $(grep -lszxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
        grep -qszF SLURM_JOB_ID= "/proc/$pid/environ" && kill -KILL "$pid"
    done 2>/dev/null
    for pid in $(grep -lsaF "$cluster" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
        [[ $(cat "/proc/$pid/comm" 2>/dev/null) == slurmstepd ]] && kill -KILL "$pid"
    done 2>/dev/null
}

stop_cluster()
{
    local status=$?
    [[ $status == 0 ]] || tail -n 20 "$cluster"/*.log
    kill_jobs
    stop slurmd
    stop slurmctld
    stop munged
    return "$status"
}
trap 'stop_cluster; finish' EXIT

until_empty() # waits for the queue
{
    for ((i = 0; i < 300; i++)); do
        [[ $(squeue --noheader 2>/dev/null; echo $?) == 0 ]] && return 0
        sleep 0.1
    done
    problem "the queue did not empty"
    return 1
}

head -c 1024 /dev/urandom >"$cluster/munge.key"
chmod 400 "$cluster/munge.key"
node=$(uname -n | cut -d. -f1)
write_conf "$node" >"$SLURM_CONF"
munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munged.pid" \
    --seed-file="$cluster/munge.seed" --log-file="$cluster/munged.log" && slurmctld -c && slurmd -N "$node"
for ((i = 0; i < 100; i++)); do
    [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && break
    sleep 0.1
done
if [[ $(sinfo --noheader --format=%T 2>/dev/null) != idle ]]; then
    tail -n 20 "$cluster"/*.log | sed 's/^/# /'
    skip "a sweep on Slurm" "no cluster can be started here"
    exit 0
fi

# ---- A job that dies ---------------------------------------------------------------------------------------

kept() { "$KINOWATT" runs export --dataset "$1" |
    sed -n 's/^{"uuid": "\([^"]*\)".* "session": "\([^"]*\)".* "point": \([0-9]*\), "repeat": \([0-9]*\), "anchor": 0.*/\3 \4 \1 \2/p'; }

cat >work <<'END'
#!/bin/sh
# The first run of the fourth point kills the job it is in.
if [ "$1" = 4 ] && [ ! -e dead ]; then touch dead; kill -KILL $PPID; exit; fi
sleep 0.1
echo "$2" >>log
END
chmod +x work

run "$KINOWATT" sweep --launcher slurm --tasks 3 --name array --axis t=1:6:1 --repeats 2 -- ./work '{t}' '{name}'
expect_rc 0
expect_out '^Submitted 3 tasks as job [0-9]+\. 0 of 12 runs are gathered\.$'
expect_out '^Gather with: kinowatt sweep --resume array$'
run "$KINOWATT" sweep --resume array
expect_rc 0
expect_out '^[123] tasks are in the queue\. [0-9]+ of 12 runs are gathered\.$'
run "$KINOWATT" sweep --resume array --json
expect_rc 0
expect_out '"complete": false'
ok "the plan is submitted once"

until_empty
run "$KINOWATT" sweep --resume array
expect_rc 0
expect_err '^kinowatt: warning: task 0 ended before its share was done; it said: .*/sweeps/array/task-0\.log\)$'
expect_err_lines 1
expect_out '^Submitted 1 tasks as job [0-9]+\. (8|9|10|11) of 12 runs are gathered\.$'
kept array | sort >before
expect test "$(wc -l <before)" -ge 8
until_empty
run "$KINOWATT" sweep --resume array
expect_rc 0
expect_out '^ *6 +2 +0\.1[0-9]* s|^ *6 +2 +1[0-9][0-9] ms'
expect_out '^Drift .* of [34] sessions'
kept array | sort >now
expect test -z "$(comm -23 before now)"
expect test "$(wc -l <now)" -eq 12
expect test "$(cut -d' ' -f1,2 now | sort -u | wc -l)" -eq 12
expect test "$(grep -c -- '-r[0-9]' log)" -eq 12
expect test "$(cut -d' ' -f4 now | sort -u | wc -l)" -le 4
run "$KINOWATT" sweep --resume array
expect_rc 0
expect test "$(kept array | wc -l)" -eq 12
ok "a job that died is submitted again: 12 runs, each once"

# ---- A node that vanishes -----------------------------------------------------------------------------------

run "$KINOWATT" sweep --launcher slurm --tasks 1 --name node --axis t=1:4:1 --repeats 4 -- sh -c 'sleep 0.1; echo {name} >>nodes' '{t}'
expect_rc 0
for ((i = 0; i < 200; i++)); do
    [[ $(grep -c -- '-r[0-9]' nodes 2>/dev/null) -ge 2 ]] && break
    sleep 0.05
done
kill -KILL "$(cat "$cluster/slurmd.pid")"
kill_jobs
scontrol update "NodeName=$node" State=DOWN Reason=gone
until_empty
run "$KINOWATT" sweep --resume node
expect_rc 0
expect_err '^kinowatt: warning: task 0 ended before its share was done; it said: '
expect_out '^Submitted 1 tasks as job [0-9]+\. ([2-9]|1[0-5]) of 16 runs are gathered\.$'
kept node | sort >before
run "$KINOWATT" sweep --resume node
expect_out '^1 tasks are in the queue\. '
scontrol update "NodeName=$node" State=RESUME
slurmd -N "$node"
until_empty
run "$KINOWATT" sweep --resume node
expect_rc 0
expect_out '^ *4 +4 '
kept node | sort >now
expect test -z "$(comm -23 before now)"
expect test "$(wc -l <now)" -eq 16
expect test "$(cut -d' ' -f1,2 now | sort -u | wc -l)" -eq 16
ok "a node that vanished costs the run it was at"

# ---- Slurm that does not answer ------------------------------------------------------------------------------

stop slurmctld
run "$KINOWATT" sweep --resume node
expect_rc 3
expect_err "^kinowatt: squeue failed: .*(contact|connect).*; 'scontrol ping' says whether the cluster answers$"
expect_err_lines 1
expect_out_lines 0
ok "a controller that does not answer is said"
