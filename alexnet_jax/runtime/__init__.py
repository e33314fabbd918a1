"""The process: errors, exit statuses, signals, several processes and whole files."""
