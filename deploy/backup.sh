#!/bin/sh
# Dumps of the database in /backups, whole or not there: each is read back before it gets its name.
# With `healthy`: exit code 0 when the last one is not older than twice BACKUP_EVERY_S.
set -eu
: "${BACKUP_EVERY_S:=3600}" "${BACKUP_KEEP:=48}"
last=/tmp/last-backup

if [ "${1:-}" = healthy ]; then
    [ -s "$last" ] && [ $(($(date +%s) - $(cat "$last"))) -le $((2 * BACKUP_EVERY_S)) ]
    exit
fi

umask 077
PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD

dump() {
    part=/backups/.part
    name=boltworks-$(date -u +%Y%m%dT%H%M%SZ).dump
    pg_dump --format=custom --file="$part" || return 1
    pg_restore --list "$part" >/dev/null || return 1
    mv "$part" "/backups/$name"
    date +%s >"$last"
    echo "backup: $name"
    # Their names sort by age.
    for old in $(ls -r /backups | grep '^boltworks-.*\.dump$' | tail -n "+$((BACKUP_KEEP + 1))"); do
        rm -f "/backups/$old"
    done
}

trap 'exit 0' TERM INT
while true; do
    if dump; then wait_s=$BACKUP_EVERY_S; else echo "backup: failed, again in a minute" >&2; wait_s=60; fi
    sleep "$wait_s" &
    wait $!
done
