#!/bin/sh
# Runs inside a machine booted by a real systemd (nspawn.rs): every line it prints is a thing that was seen.
set -eu

fail() {
    echo "failed: $*"
    systemctl status --no-pager --lines=20 'rsky-*' redis-server 2>&1 || true
    journalctl --no-pager --lines=60 2>&1 || true
    exit 1
}
show() { systemctl show --value -p "$1" "$2"; }
until_it_is() { # unit property value
    for _ in $(seq 300); do
        [ "$(show "$2" "$1")" = "$3" ] && return 0
        sleep 0.2
    done
    fail "$1: $2 is $(show "$2" "$1"), not $3"
}

systemd-sysusers rsky.conf
systemd-tmpfiles --create rsky.conf
systemctl daemon-reload
systemctl stop redis-server postgresql 2>/dev/null || true

# Its start may take five seconds, and it asks for more.
systemctl start --no-block rsky-ingester
until_it_is rsky-ingester ActiveState activating
sleep 12
until_it_is rsky-ingester ActiveState activating
[ "$(show NRestarts rsky-ingester)" = 0 ] || fail "restarted while it waited for Redis"
echo "ingester, without Redis: activating beyond its TimeoutStartSec, \"$(show StatusText rsky-ingester)\""

systemctl start redis-server
systemctl start rsky-ingester 'rsky-backfiller@0' || fail "not started"
systemctl start 'postgresql@15-main' || fail "no Postgres"
su postgres -c "psql -qX -c \"CREATE ROLE bsky LOGIN PASSWORD 'check'\" -c 'CREATE DATABASE bsky OWNER bsky'"
su postgres -c "psql -qX -d bsky -c 'CREATE EXTENSION pg_trgm'"
for file in /migrations/*.sql; do
    PGPASSWORD=check psql -qX1 -v ON_ERROR_STOP=1 -h 127.0.0.1 -U bsky -d bsky -f "$file" >/dev/null || fail "$file"
done
systemctl start 'rsky-indexer@0' || fail "indexer not started"
for unit in rsky-ingester 'rsky-backfiller@0' 'rsky-indexer@0'; do
    until_it_is "$unit" ActiveState active
    echo "$unit: active, user $(stat -c %U "/proc/$(show MainPID "$unit")"), \"$(show StatusText "$unit")\""
done
env METRICS_PORT=4020 indexer healthcheck >/dev/null || fail "healthcheck"

# An entry goes through: the unit's hardening takes nothing away that the indexer needs.
redis-cli XADD firehose_live '*' event "$(cat /event.json)" >/dev/null
for _ in $(seq 100); do
    rows=$(su postgres -c "psql -qXAt -d bsky -c 'SELECT count(*) FROM follow'")
    [ "$rows" = 1 ] && break
    sleep 0.2
done
[ "$rows" = 1 ] || fail "the entry became no row: $(redis-cli XLEN firehose_live) left, $(redis-cli XLEN firehose_live_dlq) letters"
echo "an entry of firehose_live is a row"

# A process that does nothing is ended by the watchdog and started again.
kill -STOP "$(show MainPID rsky-ingester)"
until_it_is rsky-ingester NRestarts 1
until_it_is rsky-ingester ActiveState active
echo "ingester, stopped by SIGSTOP: ended by the watchdog, active again"

systemctl stop rsky-ingester 'rsky-backfiller@0' 'rsky-indexer@0'
for unit in rsky-ingester 'rsky-backfiller@0' 'rsky-indexer@0'; do
    until_it_is "$unit" ActiveState inactive
    [ "$(show Result "$unit")/$(show ExecMainStatus "$unit")" = success/0 ] || fail "$unit: $(show Result "$unit")"
done
echo "all three stopped with exit code 0"

# What is not usable is not tried again.
echo 'INGESTER_MODE=sideways' > /etc/rsky/ingester.env
systemctl start rsky-ingester && fail "started with a wrong setting"
sleep 3
until_it_is rsky-ingester ActiveState failed
echo "a wrong setting: failed with $(show ExecMainStatus rsky-ingester), not tried again"
echo done
