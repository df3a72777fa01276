"""When and where does it run? The only room that knows Prefect; also the command line (`python -m flows`)."""
