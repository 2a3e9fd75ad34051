gcr-cleaner-cli -repo gcr.io/team/app -grace 168h -keep 3 -tag-filter-all '^(dev|pr)-.*$'
