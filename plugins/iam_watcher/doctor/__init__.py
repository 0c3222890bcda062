"""Looks at a deployment from one of its machines, and says what is wrong and what to do.

Each module has the checks of one thing. A check yields a `Finding` for each fault. The machines of an Airflow
are compared through what each run of the doctor stores in Airflow's database: see `machine` and `marks`.
"""
