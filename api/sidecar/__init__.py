"""Beside an application, on its machine: the REST of configurations and reports, wherever the server is.

Neither a database nor a workflow is near, and nothing here may import what brings them: there is one of these
per application.
"""
