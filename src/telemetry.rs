//! Logs: to stderr, constant messages, data in fields, no secrets.
