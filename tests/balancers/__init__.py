"""Load balancers in front of real servers, with the configurations of docs/deploy: `tox -e balancers`."""
