"""Everything that people pass to `send_response`: the objects of all LLM packages, raw HTTP and plain Python.

Each row is one such object, made by the real package against the fake provider and spoken in a conversation with a real
server. The rows are the table in docs/streams.md, and the tests here prove them:

    python -m tests.llm            # run the rows whose packages are installed, and print the verdicts
    python -m tests.llm page       # write the table in docs/streams.md

`tox -e llm,llm-llamaindex` runs the tests with all packages, `tox -e llm-core` with the most used ones.
"""
