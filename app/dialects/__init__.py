"""The APIs of vendors, each over the same tags and contacts. A folder here and a line in app/main.py make one."""
