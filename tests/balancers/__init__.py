"""Load balancers in front of real servers, with the configurations of docs/deploying.md: `tox -e balancers`."""
