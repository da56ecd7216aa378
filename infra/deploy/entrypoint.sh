#!/bin/sh
# What an image starts, also under this name by Prefect's Helm charts: the command, with the secrets of NAME__FILE.
exec python -m infra.deploy.with_secrets "$@"
