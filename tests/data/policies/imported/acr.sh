# A task that runs every night.
PURGE_CMD="acr purge --filter 'team/app:^(dev|pr)-.*$' \
  --ago 7d --keep 3"
az acr task create --name purge --cmd "$PURGE_CMD" --schedule "0 1 * * *" --registry example --context /dev/null
