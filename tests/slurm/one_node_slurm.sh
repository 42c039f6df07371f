#!/usr/bin/env bash
# A Slurm of one node on this machine, for the tests: `one_node_slurm.sh start`, `... stop`. Needs root, on Debian.
# Two cores, two stand-in GPUs, no accounting database; jobs that exceed their memory are killed.
set -euo pipefail

# The executor's job steps don't see SLURM_CONF: the configuration must lie where Slurm looks by itself.
config=/etc/slurm
state=/run/one-node-slurm
mark="# Made by one_node_slurm.sh"
host=$(hostname -s)

start() {
    if [ -e $config/slurm.conf ] && ! grep -q "^$mark" $config/slurm.conf; then
        echo "$config/slurm.conf is another cluster's: nothing was started" >&2
        exit 1
    fi
    if ! command -v slurmctld slurmd munged >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
    fi
    stop
    mkdir -p $config $state/spool
    cat >$config/slurm.conf <<END
$mark
ClusterName=selfrepair
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
AccountingStorageType=accounting_storage/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
AuthInfo=cred_expire=5
MinJobAge=600
KillWait=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 Gres=gpu:2
PartitionName=test Nodes=ALL Default=YES State=UP
END
    printf '%s\n' "$mark" "Name=gpu File=/dev/null" "Name=gpu File=/dev/zero" >$config/gres.conf
    if ! munge -n >/dev/null 2>&1; then
        install -d -o munge -g munge /run/munge
        runuser -u munge -- munged --pid-file /run/munge/one-node-slurm.pid
    fi
    slurmctld
    slurmd
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    echo "the node is not idle after 30 s; see $state/*.log" >&2
    tail -n 20 $state/*.log >&2
    exit 1
}

stop() {
    for file in $state/slurmd.pid $state/slurmctld.pid /run/munge/one-node-slurm.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            [ -d "/proc/$pid" ] || break
            sleep 0.1
        done
        rm -f "$file"
    done
    rm -rf $state
    if grep -qs "^$mark" $config/slurm.conf; then
        rm -f $config/slurm.conf $config/gres.conf
    fi
}

case ${1-} in
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 start|stop" >&2 && exit 2 ;;
esac
