"""The files of deploy/, each checked by a tool that knows its kind: `tox -e deploy`."""
