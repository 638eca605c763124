"""PostgreSQL and Redis: tables, migrations and the functions that hold all SQL.

A function takes the session of its caller and never commits; `Database.transaction` does.
"""
