"""What does every application do? Six stages on files, the table that orders them, what keeps them honest.

The stages are plain functions: `flows/` makes Prefect tasks from the same table, DVC calls them by
`python -m tasks STAGE APPLICATION`, and tests call `run_stage`.
"""
