#!/usr/bin/env bash
# A SLURM of one node, this machine, without systemd: for root on Debian, with its packages slurm-wlm and munge.
#     tests/slurm.sh start FOLDER   daemons, with all that they write in FOLDER; FOLDER/slurm.conf is the configuration
#     tests/slurm.sh stop FOLDER    end them
# While it runs, /etc/slurm/slurm.conf leads there: Snakemake's jobs do not keep $SLURM_CONF.
set -euo pipefail
folder=$(realpath -m "$2")
default=/etc/slurm/slurm.conf
PATH=$PATH:/usr/sbin

start() {
    if [ -e "$default" ]; then
        echo "$default is there: this machine has a SLURM of its own" >&2
        return 1
    fi
    install -d -m 755 "$folder" /etc/slurm
    ln -sfn "$folder/slurm.conf" "$default"
    host=$(hostname -s)
    cat > "$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder
SlurmdSpoolDir=$folder
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PartitionName=test Nodes=$host Default=YES
END
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    slurmctld
    slurmd
    for _ in {1..30}; do
        sinfo --noheader --format=%T 2> /dev/null | grep -q idle && return
        sleep 1
    done
    tail "$folder"/slurm*.log >&2
    return 1
}

stop() {
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$folder/$daemon.pid" 2> /dev/null) || continue
        kill "$pid" 2> /dev/null || true
        while kill -0 "$pid" 2> /dev/null; do sleep 0.2; done
    done
    if [ "$(readlink "$default")" = "$folder/slurm.conf" ]; then rm "$default"; fi
}

"$1"
