"""All SQL. A repository is born with a caller and its workspace; a verb is a unit of work that is committed when it
returns. What verbs return are frozen dataclasses, defined beside them.
"""
