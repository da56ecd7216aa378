#!/bin/sh
# What an image starts, also under this name by Prefect's Helm charts: the command, with the secrets of NAME__FILE.
# The chart of the worker names Prefect's own; ours stands in for it, which ends its runs before it ends itself.
if [ "$1 $2 $3" = "prefect worker start" ]; then
    shift 3
    set -- python -m infra.servers.pool_worker "$@"
fi
exec python -m infra.deploy.with_secrets "$@"
