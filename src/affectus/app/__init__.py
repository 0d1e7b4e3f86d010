"""The local server and its page: recordings in, live reports out, nothing leaves the machine.

The server's own process never decodes media nor runs a model; that is done by worker processes
(:mod:`affectus.app.workers`), which may die without taking the server with them.
"""
